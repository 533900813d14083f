"""What every backbone is: an encoder and a decoder that compute global and local features."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gvsl.settings.backbones import BackboneName, own_settings
from gvsl.types import Features


class Backbone(nn.Module):
    """Base of the backbones; a subclass builds `encoder` and `decoder`, which share no parameter.

    Its arguments are `in_channels`, `width`, `levels`, `checkpoint_activations`, and the settings of
    `gvsl.settings.backbones.NetworkSettings` that it has, each of which it keeps as an attribute of that name.
    """

    name: ClassVar[BackboneName]
    """Its key in `gvsl.backbones.BACKBONES`."""
    title: ClassVar[str]
    """What it is, for a reader."""
    stem_key: ClassVar[str]
    """Key of the weights of the first convolution, whose input is the image's channels."""
    encoder: nn.Module
    decoder: nn.Module

    def __init__(self, in_channels: int, channels: Sequence[int], checkpoint_activations: bool) -> None:
        """Keep the sizes.

        Args:
            in_channels: of the image.
            channels: of each level, from the finest on.
            checkpoint_activations: recompute each level's activations in the backward pass.

        Raises:
            ValueError: there is one level, or the channels of the first are no multiple of 8.
        """
        super().__init__()
        if len(channels) < 2:
            raise ValueError(f"levels is {len(channels)}: give 2 or more")
        if channels[0] < 8 or channels[0] % 8:
            raise ValueError(f"width is {channels[0]}: give a positive multiple of 8, which group normalisation needs")
        self.in_channels = in_channels
        self.channels = list(channels)
        self.checkpoint_activations = checkpoint_activations

    @property
    def width(self) -> int:
        """Channels of the first level."""
        return self.channels[0]

    @property
    def levels(self) -> int:
        """The number of resolutions."""
        return len(self.channels)

    @property
    def global_channels(self) -> int:
        """Channels of the global features."""
        return self.channels[-1]

    @property
    def local_channels(self) -> int:
        """Channels of the local features."""
        return self.channels[0]

    @property
    def normalises_over_batch(self) -> bool:
        """True if the features of a volume depend on the others of its batch, in training."""
        return any(isinstance(part, nn.BatchNorm3d) for part in self.modules())

    @property
    def network(self) -> dict[str, Any]:
        """Its name and own settings, as JSON values: what `width`, `levels` and `in_channels` don't say."""
        values = {name: getattr(self, name) for name in own_settings(self.name)}
        lists = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return {"name": self.name, **lists}

    @property
    def size(self) -> dict[str, Any]:
        """All that it is built from, as JSON values; `unet` is left unnamed, as before there were others."""
        named = {} if self.name == "unet" else self.network
        return {**named, "in_channels": self.in_channels, "width": self.width, "levels": self.levels}

    @abstractmethod
    def forward(self, image: Tensor) -> Features:
        """Compute the features of volumes of any size.

        Args:
            image: (B, in_channels, D, H, W).

        Returns:
            `global_`, (B, global_channels, d, h, w) with d = ceil(D / 2^(levels - 1)), and `local`,
            (B, local_channels, D, H, W).
        """

    @abstractmethod
    def encode(self, image: Tensor) -> Tensor:
        """Compute the global features only, without the decoder: (B, C, D, H, W) to (B, global_channels, d, h, w)."""

    def check(self, shape: Sequence[int]) -> None:
        """Check that it takes images of this many voxels along each axis; ValueError if not."""
        return

    def _run(self, work: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """Apply a function; of its tensors keep the inputs and the result alone if activations are to be recomputed."""
        if self.checkpoint_activations and self.training and torch.is_grad_enabled():
            return checkpoint(work, *inputs, use_reentrant=False)
        return work(*inputs)


class TransposedUNet(Backbone):
    """Base of the U-Nets whose decoder has transposed convolutions, `transpconvs`, and levels, `stages`."""

    decoder: nn.ModuleDict

    def forward(self, image: Tensor) -> Features:
        """Compute the features, see `Backbone.forward`; UnusableFile for an image that `check` refuses."""
        skips = self._encode(image)
        return Features(skips[-1], self._decode(skips))

    def encode(self, image: Tensor) -> Tensor:
        """Compute the global features only, see `Backbone.encode`; UnusableFile as `forward`."""
        return self._encode(image)[-1]

    @abstractmethod
    def _encode(self, image: Tensor) -> list[Tensor]:
        """Return the encoder's features of each level, from the finest on."""

    def _decode(self, skips: Sequence[Tensor]) -> Tensor:
        """Return the local features, each enlarged one cut to the size of the skip that it joins."""
        parts: tuple[Any, Any] = (self.decoder["transpconvs"], self.decoder["stages"])
        local = skips[-1]
        for larger, level, skip in zip(*parts, reversed(skips[:-1]), strict=True):
            depth, height, width = skip.shape[2:]
            local = self._run(level, torch.cat([larger(local)[:, :, :depth, :height, :width], skip], dim=1))
        return local
