"""The values that pass between the parts, and the legend of their shapes.

Shapes: B batch, C channels, D H W the volume's axes in RAS+ order (the first grows to the right, the second to the
front, the third to the top), d h w the same axes at the bottleneck.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # torch stays out of what only reads and prepares volumes
    from torch import Tensor

SPLITS = ("pretrain", "train", "val", "test")
"""The splits a case can be in; a case of `train` is usually in `pretrain` too, one of `val` or `test` never is."""


@dataclass(frozen=True)
class Case:
    """One subject as it lies on disk: an image, its label map and class if there are any, and its splits."""

    id: str
    image: Path
    label: Path | None = None
    splits: tuple[str, ...] = ()
    target: int | None = None
    """The class of the whole image, 0 or 1, which classification is to tell; 1 is what is to be found."""
    parts: tuple[str, ...] = ()
    """The files of a DICOM series, relative to `image`, its folder, where that holds other files too."""
    mask: Path | None = None
    """A mask of the lungs on the image's grid, which a crop to the lungs takes instead of looking for them."""
    unusable: str = ""
    """Why it can't be used, where that shows without reading it; it is refused with that."""


class PairBatch(NamedTuple):
    """A batch of pairs of volumes of different subjects."""

    moving: "Tensor"
    """A: (B, C, D, H, W), float32 in [0, 1]."""
    fixed: "Tensor"
    """B: (B, C, D, H, W), float32 in [0, 1], never the subject of `moving` at the same index."""
    moving_ids: list[str]
    fixed_ids: list[str]


class Features(NamedTuple):
    """What a backbone makes of a batch of volumes."""

    global_: "Tensor"
    """From the bottleneck: (B, global_channels, d, h, w)."""
    local: "Tensor"
    """From the last layer: (B, local_channels, D, H, W)."""
