"""A backbone with a segmentation head on its local features (Appendix E.3)."""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from gvsl.backbones import UNet3D
from gvsl.transfer.adapted import AdaptedNetwork

LEAST_VARIANCE = 1e-6
"""Of a channel that says nothing, which would else be blown up."""


class Head(nn.Conv3d):
    """A convolution on standardised features: logits from local features.

    Each channel is centred and scaled by what the training cases have on average; until `standardise` is called
    it is taken as it comes. The map stays linear, but it can be found: channels of a trained backbone differ in
    scale by orders of magnitude, and where they do a head stops short of its optimum.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, channels: int, classes: int, kernel: int) -> None:
        super().__init__(channels, classes, kernel, padding=kernel // 2)
        self.register_buffer("centre", torch.zeros(channels))
        self.register_buffer("spread", torch.ones(channels))

    def standardise(self, features: Iterable[Tensor]) -> None:
        """Take each channel's mean and standard deviation over all voxels of (B, channels, D, H, W) tensors."""
        count, total, squares = 0, torch.zeros_like(self.centre).double(), torch.zeros_like(self.centre).double()
        for each in features:
            voxels = each.transpose(0, 1).flatten(1).double()
            count += voxels.shape[1]
            total += voxels.sum(1)
            squares += voxels.square().sum(1)
        centre = total / count
        self.centre.copy_(centre)
        self.spread.copy_((squares / count - centre.square()).clamp_min(LEAST_VARIANCE).sqrt())

    def forward(self, features: Tensor) -> Tensor:
        """The logits: (B, channels, D, H, W) to (B, classes, D, H, W)."""
        centre, spread = (each.view(1, -1, 1, 1, 1) for each in (self.centre, self.spread))
        return super().forward((features - centre) / spread)


class SegmentationNetwork(AdaptedNetwork):
    """A convolution on the backbone's local features; the softmax is the loss's and the reader's.

    `features` are the local ones, (B, width, D, H, W), and the logits (B, classes, D, H, W). A frozen backbone
    asks for no gradient and is in eval mode whatever `train` says.
    """

    head: Head

    def __init__(
        self,
        backbone: UNet3D,
        classes: int,
        *,
        kernel: int = 3,
        frozen: bool = False,
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> None:
        super().__init__(backbone, frozen=frozen, precision=precision)
        self.head = Head(backbone.width, classes, kernel)
        self.train()

    def _represent(self, image: Tensor) -> Tensor:
        local: Tensor = self.backbone(image).local
        return local
