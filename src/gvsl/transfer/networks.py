"""A backbone with a segmentation head on its local features (Appendix E.3)."""

from typing import Literal

from torch import Tensor, nn

from gvsl.backbones import UNet3D
from gvsl.transfer.adapted import AdaptedNetwork
from gvsl.transfer.standardise import StandardisedHead


class SegmentationHead(StandardisedHead, nn.Conv3d):
    """A convolution: (B, channels, D, H, W) to logits, (B, classes, D, H, W)."""

    def __init__(self, channels: int, classes: int, kernel: int) -> None:
        super().__init__(channels, classes, kernel, padding=kernel // 2)
        self.register_scale(channels)


class SegmentationNetwork(AdaptedNetwork):
    """A convolution on the backbone's local features; the softmax is the loss's and the reader's.

    `features` are the local ones, (B, width, D, H, W), and the logits (B, classes, D, H, W). A frozen backbone
    asks for no gradient and is in eval mode whatever `train` says.
    """

    head: SegmentationHead

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
        self.head = SegmentationHead(backbone.local_channels, classes, kernel)
        self.train()

    def _represent(self, image: Tensor) -> Tensor:
        local: Tensor = self.backbone(image).local
        return local
