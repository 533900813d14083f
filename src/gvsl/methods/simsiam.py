"""SimSiam: predict one view's embedding from another's, without negatives and without a target network."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from gvsl.augment import ViewSettings, draw_views, make_view
from gvsl.backbones import UNet3D
from gvsl.heads import EmbeddingMonitor, multilayer
from gvsl.losses import negative_cosine
from gvsl.methods.method import Method, both_volumes, pooled, train_encoder_only
from gvsl.types import PairBatch


@dataclass(frozen=True)
class SimSiamSettings:
    """The pretext of SimSiam."""

    embedding: int = 256
    """Channels of the projector, all three layers (Chen & He 2021: 2048 for a ResNet of 2048 channels)."""
    bottleneck: int = 64
    """Hidden channels of the predictor, a quarter of the embedding's (as there)."""
    views: ViewSettings = field(default_factory=ViewSettings)
    """How the two views differ."""


class SimSiam(Method):
    """Predict one view's embedding from the other's, gradients stopped at the target (Chen & He 2021)."""

    learns = ("encoder",)

    def __init__(self, backbone: UNet3D, settings: SimSiamSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or SimSiamSettings()
        self.backbone = backbone
        train_encoder_only(backbone)
        self.projector = multilayer(16 * backbone.width, settings.embedding, settings.embedding, layers=3)
        self.predictor = multilayer(settings.embedding, settings.bottleneck, settings.embedding, layers=2)
        self.monitor = EmbeddingMonitor(settings.embedding)

    def parts(self) -> dict[str, nn.Module]:
        """The parts whose gradients are watched, by name."""
        return {"backbone": self.backbone, "projector": self.projector, "predictor": self.predictor}

    def training_step(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """The symmetric negative cosine (Algorithm 1 there) of two views of both volumes of each pair."""
        volumes = both_volumes(batch)
        shape = (volumes.shape[2], volumes.shape[3], volumes.shape[4])
        draws = draw_views(len(volumes), shape, self.settings.views, generator)
        views = torch.cat([make_view(volumes, draw) for draw in draws])
        one, other = self.projector(pooled(self.backbone, views)).chunk(2)
        loss = (negative_cosine(self.predictor(one), other) + negative_cosine(self.predictor(other), one)) / 2
        return {"loss": loss, "negative_cosine": loss.detach(), **self.monitor(one)}
