"""gvsl's U-Net and the heads of its transfer runs, in plain PyTorch: this file is copied into what gvsl exports.

It needs torch alone. The tensors have the names that they have in a run's model.safetensors and head.safetensors, so
that weights pass between gvsl and other programs unchanged. TorchScript compiles every network here.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class UNet(nn.Module):
    """The levels of the backbone, for images (B, in_channels, D, H, W) of any size.

    Two 3x3x3 convolutions a level, each with GroupNorm (8 channels a group) and LeakyReLU 0.2; max-pooling that rounds
    odd sides up; trilinear upsampling to the skip's size.
    """

    def __init__(self, in_channels: int, channels: list[int]) -> None:
        """Build with random weights.

        Args:
            in_channels: channels of the image.
            channels: of each level, from the finest on.
        """
        super().__init__()
        below = [in_channels, *channels[:-1]]
        self.encoder = nn.ModuleList(_level(*pair) for pair in zip(below, channels, strict=True))
        up = list(pairwise(channels))[::-1]
        self.decoder = nn.ModuleList(_level(deep + skip, skip) for skip, deep in up)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the encoder's features of each level, from the finest on; the last are the global ones."""
        found: list[Tensor] = []
        features = image
        for index, level in enumerate(self.encoder):
            if index > 0:
                features = functional.max_pool3d(features, 2, ceil_mode=True)
            features = level(features)
            found.append(features)
        return found

    def decode(self, skips: list[Tensor]) -> list[Tensor]:
        """Return the decoder's features of each level, from the second coarsest on; the last are the local ones."""
        found: list[Tensor] = []
        features = skips[-1]
        for index, level in enumerate(self.decoder):
            skip = skips[len(skips) - 2 - index]
            features = functional.interpolate(features, size=skip.shape[2:], mode="trilinear", align_corners=True)
            features = level(torch.cat([features, skip], dim=1))
            found.append(features)
        return found


class Features(UNet):
    """The backbone of a run: local and global features."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return local features, (B, channels[0], D, H, W), and global ones, (B, channels[-1], d, h, w)."""
        skips = self.encode(image)
        return self.decode(skips)[-1], skips[-1]


class Encoder(UNet):
    """The backbone without its decoder, for methods that train none: global features alone."""

    def __init__(self, in_channels: int, channels: list[int]) -> None:
        """Build with random weights; the arguments are those of `UNet`."""
        super().__init__(in_channels, channels)
        self.decoder = nn.ModuleList()

    def forward(self, image: Tensor) -> Tensor:
        """Return global features, (B, channels[-1], d, h, w)."""
        return self.encode(image)[-1]


class Segmenter(UNet):
    """A segmentation run: logits of the background and the structures, (B, classes, D, H, W), without softmax."""

    def __init__(self, in_channels: int, channels: list[int], classes: int, kernel: int = 3) -> None:
        """Build with random weights; `kernel` is the side of the head's convolution."""
        super().__init__(in_channels, channels)
        self.head = SegmentationHead(channels[0], classes, kernel)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits."""
        return self.head(self.decode(self.encode(image))[-1])


class Classifier(UNet):
    """A classification run: the logit of the positive class, (B, 1), without sigmoid."""

    def __init__(self, in_channels: int, channels: list[int]) -> None:
        """Build with random weights."""
        super().__init__(in_channels, channels)
        self.decoder = nn.ModuleList()
        self.head = ClassificationHead(channels[-1])

    def forward(self, image: Tensor) -> Tensor:
        """Return the logit, from the spatial mean of the global features."""
        return self.head(self.encode(image)[-1].mean(dim=[2, 3, 4]))


class SupervisedLevels(nn.ModuleList):
    """The levels of a decoder, with the switch that nnU-Net's trainer turns."""

    deep_supervision: bool = False


class ForNNUNet(UNet):
    """The backbone as nnU-Net v2 builds networks from plans, with a segmentation layer at each of the decoder's levels.

    The plans name it as `gvsl_unet.ForNNUNet`; the folder of this file has to be on PYTHONPATH.
    """

    decoder: SupervisedLevels

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        features_per_stage: list[int],
        strides: list[list[int]],
        deep_supervision: bool = False,
        kernel: int = 0,
    ) -> None:
        """Build with random weights.

        Args:
            input_channels: channels of the image.
            num_classes: of the segmentation, with the background.
            features_per_stage: channels of each level, from the finest on.
            strides: of each level; nnU-Net reads them from the plans, this network has no others.
            deep_supervision: return the logits of all the decoder's levels, from the finest on, instead of the first.
            kernel: side of the convolution on standardised features that a gvsl run has as its head; 0 for nnU-Net's
                own 1x1x1 layer.
        """
        super().__init__(input_channels, features_per_stage)
        if [tuple(stride) for stride in strides] != [(1, 1, 1)] + [(2, 2, 2)] * (len(features_per_stage) - 1):
            raise ValueError(f"gvsl's U-Net halves every side at every level, which is not what {strides} says")
        sizes = features_per_stage[-2::-1]
        layers: list[nn.Module] = [nn.Conv3d(size, num_classes, 1) for size in sizes]
        if kernel:
            layers[-1] = SegmentationHead(sizes[-1], num_classes, kernel)
        # nnU-Net takes no pre-trained weights for keys with ".seg_layers.", and switches decoder.deep_supervision.
        self.heads = nn.ModuleDict({"seg_layers": nn.ModuleList(layers)})
        self.decoder = SupervisedLevels(self.decoder)
        self.decoder.deep_supervision = deep_supervision

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Return the logits, or those of all levels."""
        levels = self.decode(self.encode(image))
        layers = list(self.heads["seg_layers"].children())
        if not self.decoder.deep_supervision:
            return layers[-1](levels[-1])
        return [layer(level) for layer, level in zip(layers, levels, strict=True)][::-1]


class SegmentationHead(nn.Conv3d):
    """A convolution of features whose channels are centred and scaled."""

    centre: Tensor
    spread: Tensor

    def __init__(self, channels: int, classes: int, kernel: int) -> None:
        """Build with random weights and a scale of 1."""
        super().__init__(channels, classes, kernel, padding=kernel // 2)
        self.register_buffer("centre", torch.zeros(channels))
        self.register_buffer("spread", torch.ones(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, channels, D, H, W) to (B, classes, D, H, W)."""
        scaled = (features - self.centre.view(1, -1, 1, 1, 1)) / self.spread.view(1, -1, 1, 1, 1)
        return self._conv_forward(scaled, self.weight, self.bias)


class ClassificationHead(nn.Linear):
    """A linear layer of features whose channels are centred and scaled."""

    centre: Tensor
    spread: Tensor

    def __init__(self, channels: int) -> None:
        """Build with random weights and a scale of 1."""
        super().__init__(channels, 1)
        self.register_buffer("centre", torch.zeros(channels))
        self.register_buffer("spread", torch.ones(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, channels) to (B, 1)."""
        return functional.linear((features - self.centre) / self.spread, self.weight, self.bias)


def _level(below: int, above: int) -> nn.Sequential:
    return nn.Sequential(_group(below, above), _group(above, above))


def _group(below: int, above: int) -> nn.Sequential:
    convolution = nn.Conv3d(below, above, 3, padding=1)
    return nn.Sequential(convolution, nn.GroupNorm(above // 8, above), nn.LeakyReLU(0.2, inplace=True))
