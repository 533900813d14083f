"""SimSiam: predict one view's embedding from the other's, which gets no gradient."""

from collections.abc import Iterable
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
from gvsl.methods.twins import TWO_VIEW_METRICS, held_out_twins, subject_keys, two_views
from gvsl.types import PairBatch


@dataclass(frozen=True)
class SimSiamSettings:
    """The heads and the views of SimSiam."""

    projection: int = 512
    """Size of the projector's three layers (paper: 2048, for features of 2048; ours are of 512)."""
    bottleneck: int = 128
    """Size of the predictor's hidden layer, a quarter of its output (paper: 512)."""
    norm: HeadNorm = "batch"
    """Normalisation in the heads: over the batch (paper), or over each row alone ("layer")."""
    views: ViewSettings = field(default_factory=ViewSettings)
    """The two views."""
    chunk: int | None = None
    """Views that are encoded at once, and again in the backward pass, to save memory; all if not given."""


class SimSiam(Method):
    """Predict one view's embedding from the other's, which gets no gradient."""

    pretrained = ("encoder",)
    logs = TWO_VIEW_METRICS

    def __init__(self, backbone: UNet3D, settings: SimSiamSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or SimSiamSettings()
        check_views(settings.views)
        self.backbone = backbone
        leave_decoder(backbone)
        size = settings.projection
        self.projector = ProjectionHead(16 * backbone.width, size, size, size, norm=settings.norm, normalise_last=True)
        self.predictor = ProjectionHead(size, settings.bottleneck, size, norm=settings.norm)

    def parts(self) -> dict[str, nn.Module]:
        """The parts that are trained."""
        return {"encoder": self.backbone.encoder, "projector": self.projector, "predictor": self.predictor}

    def training_step(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """The negative cosine of each view's prediction and the other's embedding, both ways."""
        embedded = self.embed(two_views(all_volumes(batch), self.settings.views, generator))
        first, second = embedded.chunk(2)
        predicted_first, predicted_second = in_float32(self.predictor, embedded).chunk(2)
        loss = (negative_cosine(predicted_first, second) + negative_cosine(predicted_second, first)) / 2
        one, other = embedded.detach().chunk(2)
        found = twin_accuracy(one, other, subject_keys(all_ids(batch), one.device))
        return {"loss": loss, "twin_accuracy": found, **embedding_measures(embedded.detach())}

    def embed(self, images: Tensor) -> Tensor:
        """The projector's embeddings: (B, C, D, H, W) to (B, projection)."""
        return in_float32(self.projector, global_features(self.backbone, images, self.settings.chunk))

    def held_out(self, volumes: Iterable[Tensor], generator: torch.Generator) -> dict[str, float]:
        """Twin retrieval and the measures of collapse."""
        return held_out_twins(self.embed, volumes, self.settings.views, generator)
