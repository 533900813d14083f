"""Base of the methods that compare two views of each volume: SimCLR, SimSiam, BYOL."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn

from gvsl.augment import ViewSettings, check_views, draw_views, make_view
from gvsl.backbones import Backbone
from gvsl.geometry import constants, spatial_shape
from gvsl.methods.embedding_metrics import EMBEDDING_METRICS, embedding_metrics, retrieval_accuracy
from gvsl.methods.encoder import EncoderMethod, all_subjects, all_volumes, global_features, in_float32
from gvsl.methods.method import LOSS
from gvsl.records.metrics import LoggedMetric
from gvsl.types import PairBatch


class TwoViewMethod(EncoderMethod):
    """Draw two views of each volume, embed them with encoder and projector, and compare the embeddings.

    A subclass creates `projector`, names it in `heads`, and defines `loss`. Its settings have `views`, a
    `ViewSettings`, and `chunk`, the number of views encoded at a time (None: all).
    """

    logs = (
        LOSS,
        LoggedMetric("twin_accuracy", "Instance retrieval accuracy", "higher"),
        LoggedMetric("twin_chance", "Chance level of instance retrieval"),
        *EMBEDDING_METRICS,
    )
    projector: nn.Module

    def __init__(self, backbone: Backbone, settings: Any) -> None:
        super().__init__(backbone)
        self.settings = settings
        check_views(settings.views)

    def check(self, crop: tuple[int, int, int], volumes: int) -> None:
        """Check that no chunk is asked of a backbone that normalises over the batch, which it would split."""
        if self.settings.chunk and self.backbone.normalises_over_batch:
            raise ValueError(
                "the backbone normalises over the batch, which chunks would split: leave out pretext.chunk"
            )

    @abstractmethod
    def loss(self, embeddings: Tensor, views: Tensor, keys: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            embeddings: of the first views of all volumes, then of the second ones, (2 N, d).
            views: the views in the same order, (2 N, C, D, H, W).
            keys: subject of each volume, (N,).
        """

    def training_step(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the loss, the instance retrieval accuracy in the batch, and the metrics of collapse."""
        views = two_views(all_volumes(batch), self.settings.views, generator)
        embeddings = self.embed(views)
        keys = subject_keys(all_subjects(batch), views.device)
        loss = self.loss(embeddings, views, keys)
        first, second = embeddings.detach().chunk(2)
        accuracy = retrieval_accuracy(first, second, keys)
        return {"loss": loss, "twin_accuracy": accuracy, **embedding_metrics(embeddings.detach())}

    def embed(self, images: Tensor) -> Tensor:
        """Return the projector's embeddings: (B, C, D, H, W) to (B, d)."""
        return in_float32(self.projector, global_features(self.backbone, images, self.settings.chunk))

    @torch.no_grad()
    def held_out(self, volumes: Iterable[Tensor], generator: torch.Generator) -> dict[str, float]:
        """Return the instance retrieval accuracy over all volumes, its chance level, and the metrics of collapse."""
        pairs = [self.embed(two_views(volume[None], self.settings.views, generator)) for volume in volumes]
        first, second = (torch.stack([pair[index] for pair in pairs]) for index in (0, 1))
        accuracy = retrieval_accuracy(first, second, torch.arange(len(first), device=first.device))
        metrics = {"twin_accuracy": accuracy, **embedding_metrics(torch.cat([first, second]))}
        return {name: float(value) for name, value in metrics.items()} | {"twin_chance": 1 / (2 * len(first) - 1)}


def two_views(images: Tensor, settings: ViewSettings, generator: torch.Generator) -> Tensor:
    """Return the first views of all volumes, then the second ones: (B, C, D, H, W) to (2 B, C, d, h, w).

    >>> two_views(torch.rand(3, 1, 20, 20, 20), ViewSettings(), torch.Generator()).shape
    torch.Size([6, 1, 16, 16, 16])
    """
    draws = draw_views(len(images), spatial_shape(images), settings, generator, images.shape[1])
    return torch.cat([make_view(images, draw) for draw in draws])


def subject_keys(subjects: Sequence[str], device: torch.device) -> Tensor:
    """Return an integer for each subject, equal in every process: (N,), int64.

    >>> first, second, again = subject_keys(["a", "b", "a"], torch.device("cpu")).tolist()
    >>> first == again != second
    True
    """
    digests = (blake2b(name.encode(), digest_size=8).digest() for name in subjects)
    return constants([int.from_bytes(digest, "big") >> 1 for digest in digests], torch.int64, device)
