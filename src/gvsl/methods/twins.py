"""What the methods on two views share: which subjects a batch holds, and how well held-out twins are found."""

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b

import torch
from torch import Tensor

from gvsl.augment import ViewSettings, draw_views, make_view
from gvsl.methods.collapse import EMBEDDING_METRICS, embedding_measures, twin_accuracy
from gvsl.methods.method import LOSS
from gvsl.records.metrics import LoggedMetric

TWO_VIEW_METRICS = (
    LOSS,
    LoggedMetric("twin_accuracy", "Instance retrieval accuracy", "higher"),
    LoggedMetric("twin_chance", "Chance level of instance retrieval"),
    *EMBEDDING_METRICS,
)


def subject_keys(ids: Sequence[str], device: torch.device) -> Tensor:
    """A number for each id, the same in every process: (N,), int64."""
    digests = (blake2b(name.encode(), digest_size=8).digest() for name in ids)
    return torch.tensor([int.from_bytes(digest, "big") >> 1 for digest in digests], device=device)


def two_views(images: Tensor, settings: ViewSettings, generator: torch.Generator) -> Tensor:
    """The first views of all volumes, then the second ones: (B, C, D, H, W) to (2 B, C, d, h, w)."""
    shape = (images.shape[2], images.shape[3], images.shape[4])
    draws = draw_views(len(images), shape, settings, generator)
    return torch.cat([make_view(images, draw) for draw in draws])


@torch.no_grad()
def held_out_twins(
    embed: Callable[[Tensor], Tensor], volumes: Iterable[Tensor], settings: ViewSettings, generator: torch.Generator
) -> dict[str, float]:
    """Twin retrieval among the views of all volumes, its chance, and the measures of collapse."""
    pairs = [embed(two_views(volume[None], settings, generator)) for volume in volumes]
    first, second = (torch.stack([pair[side] for pair in pairs]) for side in (0, 1))
    found = twin_accuracy(first, second, torch.arange(len(first), device=first.device))
    figures = {"twin_accuracy": found, **embedding_measures(torch.cat([first, second]))}
    return {name: float(value) for name, value in figures.items()} | {"twin_chance": 1 / (2 * len(first) - 1)}
