"""BYOL: predict what a slowly following copy of the network makes of the other view."""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from gvsl.augment import ViewSettings, check_views
from gvsl.backbones import UNet3D
from gvsl.heads import HeadNorm, ProjectionHead
from gvsl.losses import negative_cosine
from gvsl.methods.collapse import embedding_measures, twin_accuracy
from gvsl.methods.encoder import all_ids, all_volumes, global_features, in_float32, leave_decoder
from gvsl.methods.method import Method
from gvsl.methods.momentum import follow, momentum_at
from gvsl.methods.twins import TWO_VIEW_METRICS, held_out_twins, subject_keys, two_views
from gvsl.types import PairBatch


@dataclass(frozen=True)
class BYOLSettings:
    """The target, the heads and the views of BYOL."""

    momentum: float = 0.99
    """Of the target at first; it rises to 1 along half a cosine (paper: 0.99 for 300 epochs, 0.996 for 1000)."""
    hidden: int = 512
    """Size of the hidden layers of projector and predictor (paper: 4096)."""
    projection: int = 128
    """Size of the embeddings (paper: 256)."""
    norm: HeadNorm = "batch"
    """Normalisation in the heads: over the batch (paper), or over each row alone ("layer")."""
    views: ViewSettings = field(default_factory=ViewSettings)
    """The two views."""
    chunk: int | None = None
    """Views that are encoded at once, and again in the backward pass, to save memory; all if not given."""


class BYOL(Method):
    """Predict what a slowly following copy of the network makes of the other view."""

    pretrained = ("encoder",)
    logs = TWO_VIEW_METRICS

    def __init__(self, backbone: UNet3D, settings: BYOLSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or BYOLSettings()
        check_views(settings.views)
        if not 0 <= settings.momentum < 1:
            raise ValueError(f"momentum is {settings.momentum:g}: give 0 or more and less than 1, such as 0.99")
        self.backbone = backbone
        leave_decoder(backbone)
        self.projector = ProjectionHead(16 * backbone.width, settings.hidden, settings.projection, norm=settings.norm)
        self.predictor = ProjectionHead(settings.projection, settings.hidden, settings.projection, norm=settings.norm)
        self.target = deepcopy(backbone)
        self.target.decoder = nn.ModuleList()  # nobody asks it for local features
        self.target_projector = deepcopy(self.projector)
        for part in (self.target, self.target_projector):
            part.requires_grad_(False)

    def parts(self) -> dict[str, nn.Module]:
        """The parts that are trained; the target follows without a gradient."""
        return {"encoder": self.backbone.encoder, "projector": self.projector, "predictor": self.predictor}

    def training_step(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """The negative cosine of each view's prediction and the target's embedding of the other, both ways."""
        views = two_views(all_volumes(batch), self.settings.views, generator)
        embedded = self.embed(views)
        with torch.no_grad():
            first, second = in_float32(self.target_projector, global_features(self.target, views)).chunk(2)
        predicted_first, predicted_second = in_float32(self.predictor, embedded).chunk(2)
        loss = (negative_cosine(predicted_first, second) + negative_cosine(predicted_second, first)) / 2
        one, other = embedded.detach().chunk(2)
        found = twin_accuracy(one, other, subject_keys(all_ids(batch), one.device))
        return {"loss": loss, "twin_accuracy": found, **embedding_measures(embedded.detach())}

    def after_step(self, step: int, max_steps: int) -> None:
        """Have the target follow."""
        momentum = momentum_at(step, max_steps, self.settings.momentum)
        follow(self.target.encoder.parameters(), self.backbone.encoder.parameters(), momentum)
        follow(self.target_projector.parameters(), self.projector.parameters(), momentum)

    def embed(self, images: Tensor) -> Tensor:
        """The projector's embeddings: (B, C, D, H, W) to (B, projection)."""
        return in_float32(self.projector, global_features(self.backbone, images, self.settings.chunk))

    def held_out(self, volumes: Iterable[Tensor], generator: torch.Generator) -> dict[str, float]:
        """Twin retrieval and the measures of collapse."""
        return held_out_twins(self.embed, volumes, self.settings.views, generator)
