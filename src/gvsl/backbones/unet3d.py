"""The 3D U-Net that every method pre-trains (Section 4.1, Appendix D.2, Fig. 12 a)."""

from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from gvsl.backbones.backbone import Backbone
from gvsl.backbones.blocks import conv_group
from gvsl.backbones.convolution import SoundConv3d
from gvsl.types import Features

MIN_SIDE = 4
"""Voxels along a crop's shortest side that `levels_for` keeps at the last level."""


class UNet3D(Backbone):
    """3D U-Net with group normalisation: 32-64-128-256-512 channels and back, 23.5 M parameters by default.

    Two 3x3x3 convolutions a level, GroupNorm with channels / 8 groups, LeakyReLU 0.2, max-pooling, trilinear
    upsampling, skip concatenation. Odd sides are pooled to half their size rounded up and upsampled to the skip's size,
    so that no volume needs padding, which would affect the normalisation and cost time.

    Raises:
        ValueError: `width` is not a positive multiple of 8, or `levels` is less than 2.

    >>> import torch
    >>> network = UNet3D(width=8)
    >>> features = network(torch.rand(1, 1, 16, 20, 24))
    >>> features.global_.shape, features.local.shape
    (torch.Size([1, 128, 1, 2, 2]), torch.Size([1, 8, 16, 20, 24]))
    >>> network.global_channels, network.local_channels
    (128, 8)
    """

    name = "unet"
    title = "U-Net"
    stem_key = "encoder.0.0.0.weight"
    encoder: nn.ModuleList
    decoder: nn.ModuleList

    def __init__(
        self, in_channels: int = 1, width: int = 32, levels: int = 5, checkpoint_activations: bool = False
    ) -> None:
        channels = [width * 2**level for level in range(levels)]
        super().__init__(in_channels, channels, checkpoint_activations)
        self.encoder = nn.ModuleList(
            nn.Sequential(conv_group(below, above), conv_group(above, above))
            for below, above in pairwise([in_channels, *channels])
        )
        self.decoder = nn.ModuleList(
            nn.Sequential(conv_group(deep + skip, skip), conv_group(skip, skip))
            for skip, deep in reversed(list(pairwise(channels)))
        )
        for part in self.modules():
            if isinstance(part, SoundConv3d):
                part.recomputed = checkpoint_activations

    def forward(self, image: Tensor) -> Features:
        """Compute the features, see `Backbone.forward`; sides of one voxel are taken too."""
        skips, bottleneck = self._encode(image)
        local = bottleneck
        for level, skip in zip(self.decoder, reversed(skips), strict=True):
            local = self._level(level, local, skip)
        return Features(bottleneck, local)

    def encode(self, image: Tensor) -> Tensor:
        """Compute the global features only, see `Backbone.encode`."""
        return self._encode(image)[1]

    def _encode(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        skips: list[Tensor] = []
        features = image
        for index, level in enumerate(self.encoder):
            if index:
                skips.append(features)
                features = functional.max_pool3d(features, 2, ceil_mode=True)
            features = self._level(level, features)
        return skips, features

    def _level(self, level: Any, features: Tensor, skip: Tensor | None = None) -> Tensor:
        """Run a level's two convolution groups on features, in the decoder enlarged and side by side with a skip.

        Each piece that may be recomputed ends with a convolution. Recomputing stops at the last tensor that the
        backward pass needs, the convolution's input, so that no convolution is computed again.
        """
        (first, norm, activate), (second, last_norm, last_activate) = level
        hidden = first(features) if skip is None else self._join(first, features, skip)
        hidden = self._run(lambda hidden: second(activate(norm(hidden))), hidden)
        result: Tensor = last_activate(last_norm(hidden))
        return result

    def _join(self, convolution: SoundConv3d, features: Tensor, skip: Tensor) -> Tensor:
        """Enlarge features to a skip's size and convolve both, as if side by side.

        Side by side they would be copied, and the gradient of all channels at once would be the largest tensor of a
        step.
        """
        deep, own = convolution.weight.split([features.shape[1], skip.shape[1]], dim=1)

        def enlarge(features: Tensor) -> Tensor:
            larger = functional.interpolate(features, size=skip.shape[2:], mode="trilinear", align_corners=True)
            return convolution.convolve(larger, deep, None)

        return self._run(enlarge, features) + convolution.convolve(skip, own, convolution.bias)


def levels_for(crop: tuple[int, int, int]) -> int:
    """Return the number of levels that suits a crop: halved while its shortest side keeps 4 voxels, but at least 2.

    Source: F. Isensee, P. F. Jaeger, S. A. A. Kohl, J. Petersen and K. H. Maier-Hein. nnU-Net: a self-configuring
    method for deep learning-based biomedical image segmentation. Nature Methods 18, 2021. There an axis that is short
    stops early and the others go on; here all axes are pooled together.

    Args:
        crop: (D, H, W).

    >>> levels_for((32, 48, 32)), levels_for((16, 64, 64)), levels_for((128, 128, 128))
    (4, 3, 6)
    """
    levels = 2
    while coarsest(crop, levels + 1) >= MIN_SIDE:
        levels += 1
    return levels


def coarsest(crop: tuple[int, int, int], levels: int) -> int:
    """Return the voxels along a crop's shortest side at the last level.

    >>> coarsest((32, 48, 32), levels=4), coarsest((16, 16, 16), levels=5)
    (4, 1)
    """
    return -(-min(crop) // 2 ** (levels - 1))
