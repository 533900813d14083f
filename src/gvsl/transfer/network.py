"""A backbone with a segmentation head on its local features (Appendix E.3)."""

from typing import Literal, Self

import torch
from torch import Tensor, nn

from gvsl.backbones import UNet3D


class SegmentationNetwork(nn.Module):
    """A convolution on the backbone's local features; the softmax is the loss's and the reader's.

    A frozen backbone asks for no gradient and is in eval mode whatever `train` says, so that a step changes
    neither its parameters nor its buffers.
    """

    def __init__(
        self,
        backbone: UNet3D,
        classes: int,
        *,
        kernel: int = 3,
        frozen: bool = False,
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Conv3d(backbone.width, classes, kernel, padding=kernel // 2)
        self.frozen = frozen
        self.precision = precision
        if frozen:
            backbone.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all parts but a frozen backbone, which stays in eval mode."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def features(self, image: Tensor) -> Tensor:
        """The local features, float32: (B, in_channels, D, H, W) to (B, width, D, H, W)."""
        with (
            torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen),
            torch.autocast(image.device.type, torch.bfloat16, enabled=self.precision == "bf16"),
        ):
            local: Tensor = self.backbone(image).local
        return local.float()

    def forward(self, image: Tensor) -> Tensor:
        """The logits, float32: (B, in_channels, D, H, W) to (B, classes, D, H, W)."""
        logits: Tensor = self.head(self.features(image))
        return logits
