"""A backbone with a classification head on its pooled global features (Appendix E.3)."""

from typing import Literal

from torch import Tensor, nn

from gvsl.backbones import UNet3D
from gvsl.transfer.adapted import AdaptedNetwork
from gvsl.transfer.standardise import StandardisedHead


class ClassificationHead(StandardisedHead, nn.Linear):
    """A linear layer: (B, channels) to a logit, (B, 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 1)
        self.register_scale(channels)


class ClassificationNetwork(AdaptedNetwork):
    """A linear layer on the mean of the global features over space; the sigmoid is the loss's and the reader's.

    `features` are (B, global_channels) and the logits (B, 1): how far the case belongs to class 1. The decoder takes no
    part: it is neither run nor trained.
    """

    head: ClassificationHead

    def __init__(
        self,
        backbone: UNet3D,
        *,
        frozen: bool = False,
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> None:
        super().__init__(backbone, frozen=frozen, precision=precision)
        self.head = ClassificationHead(backbone.global_channels)
        self.train()

    def _represent(self, image: Tensor) -> Tensor:
        return self.backbone.encode(image).mean(dim=(2, 3, 4))
