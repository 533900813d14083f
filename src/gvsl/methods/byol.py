"""BYOL: predict what a slowly moving copy of the network makes of another view."""

import math
from copy import deepcopy
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
class BYOLSettings:
    """The pretext of BYOL."""

    hidden: int = 512
    """Hidden channels of projector and predictor (Grill et al. 2020: 4096 for a ResNet of 2048 channels)."""
    embedding: int = 256
    """Channels of the embedding (256)."""
    momentum: float = 0.99
    """Share of the target that a step keeps at first; it rises to 1 along a half cosine (0.99 for short training)."""
    views: ViewSettings = field(default_factory=ViewSettings)
    """How the two views differ."""


class BYOL(Method):
    """Predict a moving average's embedding of the other view (Grill et al. 2020)."""

    learns = ("encoder",)

    def __init__(self, backbone: UNet3D, settings: BYOLSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or BYOLSettings()
        self.backbone = backbone
        train_encoder_only(backbone)
        self.projector = multilayer(16 * backbone.width, settings.hidden, settings.embedding, layers=2)
        self.predictor = multilayer(settings.embedding, settings.hidden, settings.embedding, layers=2)
        self.target_backbone = deepcopy(backbone).requires_grad_(False)
        self.target_backbone.decoder = nn.ModuleList()  # never run
        self.target_projector = deepcopy(self.projector).requires_grad_(False)
        self.monitor = EmbeddingMonitor(settings.embedding)

    def parts(self) -> dict[str, nn.Module]:
        """The parts whose gradients are watched, by name."""
        return {"backbone": self.backbone, "projector": self.projector, "predictor": self.predictor}

    def training_step(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """The symmetric negative cosine (Eq. 2 there, shifted and halved) of two views of both volumes of each pair."""
        volumes = both_volumes(batch)
        shape = (volumes.shape[2], volumes.shape[3], volumes.shape[4])
        draws = draw_views(len(volumes), shape, self.settings.views, generator)
        views = torch.cat([make_view(volumes, draw) for draw in draws])
        one, other = self.predictor(self.projector(pooled(self.backbone, views))).chunk(2)
        target_one, target_other = self.target(views).chunk(2)
        loss = (negative_cosine(one, target_other) + negative_cosine(other, target_one)) / 2
        return {"loss": loss, "negative_cosine": loss.detach(), **self.monitor(target_one)}

    @torch.no_grad()
    def target(self, views: Tensor) -> Tensor:
        """What the target makes of views: (B, C, D, H, W) to (B, embedding)."""
        embeddings: Tensor = self.target_projector(pooled(self.target_backbone, views))
        return embeddings

    def after_step(self, step: int, max_steps: int) -> None:
        """Move the target towards the network by the momentum of this step."""
        momentum = momentum_at(step, max_steps, self.settings.momentum)
        follow(self.target_backbone.encoder, self.backbone.encoder, momentum)
        follow(self.target_projector, self.projector, momentum)


def momentum_at(step: int, max_steps: int, first: float) -> float:
    """The momentum of a step: from `first` up to 1 along a half cosine (Grill et al. 2020, Section 3.3)."""
    return 1 - (1 - first) * (math.cos(math.pi * min(1.0, step / max_steps)) + 1) / 2


@torch.no_grad()
def follow(target: nn.Module, network: nn.Module, momentum: float) -> None:
    """Move each of the target's parameters towards the network's: momentum * target + (1 - momentum) * network."""
    for slow, fast in zip(target.parameters(), network.parameters(), strict=True):
        slow.lerp_(fast.to(slow.dtype), 1 - momentum)
