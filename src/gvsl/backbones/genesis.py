"""The network of the published weights of Models Genesis: a 3D U-Net with batch normalisation."""

import re
from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import Tensor, nn
from torch.nn import functional

from gvsl.backbones.backbone import TransposedUNet
from gvsl.backbones.blocks import Convolution
from gvsl.io import UnusableFile, format_sizes

PUBLISHED_WIDTH, PUBLISHED_LEVELS = 64, 4
LAST_LAYER = "out_tr."
"""How the names of its last layer begin, which restores the image and is no part of a backbone."""
PARTS = ("conv1", "bn1")
"""The published names of the layers of a block that have tensors."""
OWN = re.compile(r"encoder\.(?P<level>\d)\.(?P<block>\d)\.(?P<part>\d)\.(?P<tensor>\w+)")
OWN_UP = re.compile(r"decoder\.stages\.(?P<level>\d)\.(?P<block>\d)\.(?P<part>\d)\.(?P<tensor>\w+)")
OWN_TRANSPOSED = re.compile(r"decoder\.transpconvs\.(?P<level>\d)\.(?P<tensor>\w+)")


class Genesis(TransposedUNet):
    """3D U-Net with batch normalisation: 64-128-256-512 channels and back, 19.1 M parameters as published.

    Two 3x3x3 convolutions a level, each with batch normalisation and ReLU; in the encoder the second of them doubles
    the channels. Max-pooling, transposed convolutions, skip concatenation. Odd sides are halved rounding up, and what
    the transposed convolutions make too large is cut to the skip's size.

    Source: Z. Zhou, V. Sodha, M. M. Rahman Siddiquee, R. Feng, N. Tajbakhsh, M. B. Gotway and J. Liang. Models Genesis:
    Generic Autodidactic Models for 3D Medical Image Analysis. MICCAI 2019. https://arxiv.org/abs/1908.06912

    >>> import torch
    >>> network = Genesis(width=8, levels=3).eval()
    >>> features = network(torch.rand(1, 1, 16, 20, 23))
    >>> features.global_.shape, features.local.shape
    (torch.Size([1, 32, 4, 5, 6]), torch.Size([1, 8, 16, 20, 23]))
    """

    name = "genesis"
    title = "the U-Net of Models Genesis"
    stem_key = "encoder.0.0.0.weight"
    encoder: nn.ModuleList

    def __init__(
        self, in_channels: int = 1, width: int = 32, levels: int = 5, checkpoint_activations: bool = False
    ) -> None:
        """Build with random weights.

        Raises:
            ValueError: a size is out of its range, or activations are to be recomputed.
        """
        if checkpoint_activations:
            raise ValueError(
                "checkpoint_activations would count every image twice in the batch normalisation: leave it out"
            )
        channels = [width * 2**level for level in range(levels)]
        super().__init__(in_channels, channels, checkpoint_activations)
        middles = [width // 2, *channels[:-1]]
        self.encoder = nn.ModuleList(
            nn.Sequential(_block(below, middle), _block(middle, above))
            for below, middle, above in zip([in_channels, *channels[:-1]], middles, channels, strict=True)
        )
        sizes = list(reversed(list(pairwise(channels))))
        self.decoder = nn.ModuleDict(
            {
                "transpconvs": nn.ModuleList(nn.ConvTranspose3d(deep, deep, 2, stride=2) for _, deep in sizes),
                "stages": nn.ModuleList(
                    nn.Sequential(_block(deep + skip, skip), _block(skip, skip)) for skip, deep in sizes
                ),
            }
        )

    def check(self, shape: Sequence[int]) -> None:
        """Check that more than one voxel is left at the last level, as training with batch normalisation needs."""
        if prod(-(-side // 2 ** (self.levels - 1)) for side in shape) == 1:
            raise ValueError(
                f"{format_sizes(shape)} voxels leave a single one at the last of {self.levels} levels, with which the "
                f"batch normalisation of {self.name} can't be trained: larger crops, or fewer levels"
            )

    def _encode(self, image: Tensor) -> list[Tensor]:
        """Return the encoder's features of each level, from the finest on."""
        if self.training:
            try:
                self.check(image.shape[2:])
            except ValueError as error:
                raise UnusableFile(str(error)) from None
        features, found = image, list[Tensor]()
        for index, level in enumerate(self.encoder):
            features = functional.max_pool3d(features, 2, ceil_mode=True) if index else features
            features = self._run(level, features)
            found.append(features)
        return found


def _block(in_channels: int, out_channels: int) -> nn.Sequential:
    convolution = Convolution(in_channels, out_channels)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm3d(out_channels), nn.ReLU(inplace=True))


def published_name(name: str) -> str:
    """Return the name that the published weights have for a tensor of the backbone.

    >>> published_name("encoder.3.0.1.running_mean"), published_name("decoder.transpconvs.0.bias")
    ('down_tr512.ops.0.bn1.running_mean', 'up_tr256.up_conv.bias')
    >>> published_name("decoder.stages.2.1.0.weight")
    'up_tr64.ops.1.conv1.weight'
    """
    if found := OWN.fullmatch(name):
        return f"down_tr{PUBLISHED_WIDTH << int(found['level'])}.{_in_block(found)}"
    deepest = PUBLISHED_WIDTH << (PUBLISHED_LEVELS - 2)
    if found := OWN_UP.fullmatch(name):
        return f"up_tr{deepest >> int(found['level'])}.{_in_block(found)}"
    if found := OWN_TRANSPOSED.fullmatch(name):
        return f"up_tr{deepest >> int(found['level'])}.up_conv.{found['tensor']}"
    raise ValueError(f"{name} is no tensor of the backbone")


def _in_block(found: re.Match[str]) -> str:
    return f"ops.{found['block']}.{PARTS[int(found['part'])]}.{found['tensor']}"
