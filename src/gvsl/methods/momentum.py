"""A target network that follows another one slowly."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor


def momentum_at(step: int, max_steps: int, first: float) -> float:
    """The momentum after a step: from `first` to 1 along half a cosine, 1 - (1 - first) (cos(pi k / K) + 1) / 2."""
    return 1 - (1 - first) * (math.cos(math.pi * min(1.0, step / max_steps)) + 1) / 2


@torch.no_grad()
def follow(targets: Iterable[Tensor], sources: Iterable[Tensor], momentum: float) -> None:
    """Move each target towards its source, in place: target = momentum * target + (1 - momentum) * source."""
    for target, source in zip(targets, sources, strict=True):
        target.lerp_(source.detach(), 1 - momentum)
