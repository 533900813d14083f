"""SimCLR: find each view's twin among the views of all volumes."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from gvsl.augment import ViewSettings, check_views
from gvsl.backbones import UNet3D
from gvsl.heads import HeadNorm, ProjectionHead
from gvsl.losses import nt_xent
from gvsl.methods.collapse import embedding_measures, twin_accuracy
from gvsl.methods.distributed import gather_rows, own_rows
from gvsl.methods.encoder import all_ids, all_volumes, global_features, in_float32, leave_decoder
from gvsl.methods.method import Method
from gvsl.methods.twins import TWO_VIEW_METRICS, held_out_twins, subject_keys, two_views
from gvsl.types import PairBatch


@dataclass(frozen=True)
class SimCLRSettings:
    """The loss, the head and the views of SimCLR."""

    temperature: float = 0.1
    """Of NT-Xent (paper: 0.1 for ImageNet, 0.5 for CIFAR-10)."""
    hidden: int = 512
    """Size of the projector's hidden layer, that of the features (paper: 2048, the same)."""
    projection: int = 128
    """Size of the embeddings (paper: 128)."""
    norm: HeadNorm = "batch"
    """Normalisation in the head: over the batch (paper), or over each row alone ("layer")."""
    views: ViewSettings = field(default_factory=ViewSettings)
    """The two views."""
    chunk: int | None = None
    """Views that are encoded at once, and again in the backward pass: memory for a batch of any size, and so for its
    negatives, at a third more time. All if not given."""


class SimCLR(Method):
    """Find each view's twin among the views of all volumes, of all processes."""

    pretrained = ("encoder",)
    logs = TWO_VIEW_METRICS

    def __init__(self, backbone: UNet3D, settings: SimCLRSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or SimCLRSettings()
        check_views(settings.views)
        if not settings.temperature > 0:
            raise ValueError(f"temperature is {settings.temperature:g}: give more than 0, such as 0.1")
        self.backbone = backbone
        leave_decoder(backbone)
        self.projector = ProjectionHead(16 * backbone.width, settings.hidden, settings.projection, norm=settings.norm)

    def parts(self) -> dict[str, nn.Module]:
        """The parts that are trained."""
        return {"encoder": self.backbone.encoder, "projector": self.projector}

    def training_step(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """NT-Xent over the views of all volumes of all processes."""
        images = all_volumes(batch)
        first, second = self.embed(two_views(images, self.settings.views, generator)).chunk(2)
        keys = subject_keys(all_ids(batch), images.device)
        others = gather_rows(first), gather_rows(second), gather_rows(keys)
        loss = nt_xent(first, second, keys, self.settings.temperature, others=others, begin=own_rows(len(first)))
        found = twin_accuracy(first.detach(), second.detach(), keys)
        return {"loss": loss, "twin_accuracy": found, **embedding_measures(torch.cat([first, second]).detach())}

    def embed(self, images: Tensor) -> Tensor:
        """The projector's embeddings: (B, C, D, H, W) to (B, projection)."""
        return in_float32(self.projector, global_features(self.backbone, images, self.settings.chunk))

    def held_out(self, volumes: Iterable[Tensor], generator: torch.Generator) -> dict[str, float]:
        """Twin retrieval and the measures of collapse."""
        return held_out_twins(self.embed, volumes, self.settings.views, generator)
