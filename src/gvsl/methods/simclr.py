"""SimCLR: find a view's twin among the views of all other volumes."""

from dataclasses import dataclass, field
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.nn import functional

from gvsl.augment import ViewSettings, draw_views, make_view
from gvsl.backbones import UNet3D
from gvsl.heads import EmbeddingMonitor, multilayer
from gvsl.losses import gather, nt_xent
from gvsl.methods.method import Method, both_volumes, pooled, train_encoder_only
from gvsl.types import PairBatch


@dataclass(frozen=True)
class SimCLRSettings:
    """The pretext of SimCLR."""

    embedding: int = 128
    """Channels of the embedding (Chen et al. 2020: 128)."""
    temperature: float = 0.5
    """By which cosines are divided (0.5 for batches of 256, 0.1 for larger ones)."""
    views: ViewSettings = field(default_factory=ViewSettings)
    """How the two views differ."""


class SimCLR(Method):
    """Find a view's twin among the views of all other volumes (Chen et al. 2020)."""

    learns = ("encoder",)

    def __init__(self, backbone: UNet3D, settings: SimCLRSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or SimCLRSettings()
        if not settings.temperature > 0:
            raise ValueError(f"temperature is {settings.temperature}: give more than 0")
        self.backbone = backbone
        train_encoder_only(backbone)
        channels = 16 * backbone.width
        self.projector = multilayer(channels, channels, settings.embedding, layers=2)
        self.monitor = EmbeddingMonitor(settings.embedding)

    def parts(self) -> dict[str, nn.Module]:
        """The parts whose gradients are watched, by name."""
        return {"backbone": self.backbone, "projector": self.projector}

    def training_step(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """NT-Xent of two views of both volumes of each pair; negatives are the views of every process."""
        volumes = both_volumes(batch)
        shape = (volumes.shape[2], volumes.shape[3], volumes.shape[4])
        draws = draw_views(len(volumes), shape, self.settings.views, generator)
        views = torch.cat([make_view(volumes, draw) for draw in draws])
        one, other = self.projector(pooled(self.backbone, views)).chunk(2)
        subjects = torch.tensor([crc32(name.encode()) for name in batch.moving_ids + batch.fixed_ids])
        loss = nt_xent(one, other, self.settings.temperature, subjects.to(one.device))
        found = {"nt_xent": loss.detach(), "twins_found": twins_found(one.detach(), other.detach())}
        return {"loss": loss, **found, **self.monitor(one)}


def twins_found(one: Tensor, other: Tensor) -> Tensor:
    """The share of first views whose nearest second view, of all processes', is their own: (B, C) twice to a scalar.

    Chance is 1 / (the volumes of all processes).
    """
    mine = functional.normalize(one.float(), dim=1)
    cosines = mine @ functional.normalize(gather(other.float()), dim=1).T
    own = (mine * functional.normalize(other.float(), dim=1)).sum(dim=1)
    return (own >= cosines.amax(dim=1) - 1e-6).float().mean()
