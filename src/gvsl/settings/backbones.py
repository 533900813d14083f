"""Settings of the backbones."""

from dataclasses import dataclass, field

from gvsl.settings import NOTHING, Levels


@dataclass(frozen=True)
class UNet3DSettings:
    """The size of the backbone."""

    in_channels: int = 1
    """Channels of the input volume; those of the store, if not given."""
    width: int = 32
    """Channels of the first level, a multiple of 8; doubled at each level below (paper: 32 to 512)."""
    levels: Levels = 5
    """Resolutions, each half of the one above (paper: 5); `auto` chooses them by the crop, so that the last one keeps
    at least 4 voxels along the shortest side, which a crop of 32 does at 4 levels."""
    checkpoint_activations: bool = field(default=False, metadata=NOTHING)
    """Recompute each level's activations in the backward pass: less memory, about a third more time."""
