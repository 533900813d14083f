"""Settings of the pairs that pre-training draws from a store."""

from dataclasses import dataclass, field
from typing import Literal

from gvsl.errors import UserError
from gvsl.settings import NOTHING, check_ranges, check_settings


@dataclass(frozen=True)
class DataSettings:
    """Pairs of volumes of different subjects, drawn from a store.

    Raises:
        UserError: there is no such order or pairing, or a value is out of its range.
    """

    split: str = "pretrain"
    """Split of the store to draw from; labels are never read."""
    batch_size: int = 2
    """Pairs per step (Appendix D.2: 2)."""
    crop: tuple[int, int, int] | None = None
    """Crop in voxels, one side or three; if not given, the multiples of 16 that fit the store's median volume."""
    most_voxels: int = 128**3
    """Maximum size in voxels of the crop that is chosen if none is given."""
    order: Literal["independent", "epoch"] = "independent"
    """Order of the pairs: drawn independently at each step, or in epochs that use each volume once."""
    pairing: Literal["whole", "aligned"] = "whole"
    """Position of crops in larger volumes: at the centre of each foreground, or at the same relative position in both
    foregrounds."""
    jitter: float = 0.05
    """For aligned pairs, the maximum offset of the moving crop, as a fraction of its sides."""
    workers: int = field(default=1, metadata=NOTHING)
    """Processes that read volumes; 0 reads in the training process."""
    on_device: bool = field(default=False, metadata=NOTHING)
    """Read each volume once, whole, in the training process, and keep it on the training device; for small stores.
    Never run on a GPU."""

    def __post_init__(self) -> None:
        check_settings(self, "data.", batch_size=1, most_voxels=1, workers=0)
        check_ranges(self, "data.", jitter=(0, 0.5))
        if self.crop is not None and min(self.crop) < 2:
            raise UserError(f"data.crop is {self.crop}: give 2 voxels or more for each side")
