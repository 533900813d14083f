"""Settings of the backbones."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

from gvsl.errors import UserError
from gvsl.settings import NOTHING, Levels, check_settings

BackboneName = Literal["unet", "resenc", "plainconv", "genesis"]
"""The keys of `gvsl.backbones.BACKBONES`."""
OF = "backbones"


def only_of(*names: BackboneName) -> Mapping[str, tuple[str, ...]]:
    """Return the metadata of a setting that only some backbones have."""
    return {OF: names}


@dataclass(frozen=True)
class NetworkSettings:
    """Which network the backbone is.

    Raises:
        UserError: there is no such backbone, a value is out of its range, or it is one that this backbone lacks.
    """

    name: BackboneName = "unet"
    """`unet`: gvsl's own 3D U-Net; `resenc` (as in the ResEnc presets) or `plainconv`: networks of nnU-Net; `genesis`:
    the network of Models Genesis."""
    blocks: tuple[int, ...] = field(default=(), metadata=only_of("resenc"))
    """Residual blocks of each level of `resenc`'s encoder, such as [1, 3, 4, 6, 6]; as in nnU-Net if not given."""
    max_width: int = field(default=320, metadata=only_of("resenc", "plainconv"))
    """Maximum number of channels of a level, only for nnU-Net's networks (nnU-Net: 320)."""

    def __post_init__(self) -> None:
        check_settings(self, "backbone.", max_width=8)
        foreign = set(own_settings("unet", "resenc", "plainconv")) - set(own_settings(self.name))
        for item in fields(NetworkSettings):
            if item.name in foreign and getattr(self, item.name) != item.default:
                names = " or ".join(item.metadata[OF])
                raise UserError(f"backbone.{item.name} is a setting of {names}, not of {self.name}: leave it out")
        if self.blocks and min(self.blocks) < 1:
            raise UserError(f"backbone.blocks is {list(self.blocks)}: give 1 or more for each level")


@dataclass(frozen=True)
class BackboneSettings(NetworkSettings):
    """The backbone and its size."""

    in_channels: int = 1
    """Channels of the input volume; those of the store, if not given."""
    width: int = 32
    """Channels of the first level, a multiple of 8; doubled at each level below (paper: 32 to 512)."""
    levels: Levels = 5
    """Number of resolutions, each half of the one above (paper: 5); `auto` chooses it from the crop so that the last
    one keeps at least 4 voxels along the shortest side, such as 4 levels for a crop of 32."""
    checkpoint_activations: bool = field(default=False, metadata=NOTHING)
    """Recompute activations in the backward pass: less memory. `unet` computes no convolution again, which takes hardly
    more time; the others recompute whole levels, which takes about a third more."""


UNet3DSettings = BackboneSettings
"""The name from before there were other backbones."""


def own_settings(*names: str) -> list[str]:
    """Return the settings that some backbones have and others lack.

    >>> own_settings("unet"), own_settings("plainconv")
    ([], ['max_width'])
    """
    return [item.name for item in fields(NetworkSettings) if set(item.metadata.get(OF, ())) & set(names)]
