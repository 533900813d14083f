"""What the networks of all tasks have in common: a backbone that may be frozen."""

from typing import Literal, Self

import torch
from torch import Tensor, nn

from gvsl.backbones import UNet3D


class AdaptedNetwork(nn.Module):
    """A backbone with a head on some of its features.

    A frozen backbone asks for no gradient and is in eval mode whatever `train` says, so that a step changes
    neither its parameters nor its buffers. A subclass adds `head` and says which `features` that sees.
    """

    head: nn.Module

    def __init__(self, backbone: UNet3D, *, frozen: bool, precision: Literal["fp32", "bf16"]) -> None:
        super().__init__()
        self.backbone = backbone
        self.frozen = frozen
        self.precision = precision
        if frozen:
            backbone.requires_grad_(False)

    @property
    def trained(self) -> nn.Module:
        """What a step may change."""
        return self.head if self.frozen else self

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all parts but a frozen backbone, which stays in eval mode."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def features(self, image: Tensor) -> Tensor:
        """What the head sees, float32: of (B, in_channels, D, H, W)."""
        with (
            torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen),
            torch.autocast(image.device.type, torch.bfloat16, enabled=self.precision == "bf16"),
        ):
            represented = self._represent(image)
        return represented.float()

    def forward(self, image: Tensor) -> Tensor:
        """The logits, float32, of (B, in_channels, D, H, W)."""
        logits: Tensor = self.head(self.features(image))
        return logits

    def _represent(self, image: Tensor) -> Tensor:
        raise NotImplementedError
