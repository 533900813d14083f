"""Losses on embeddings of two views: NT-Xent (SimCLR) and the negative cosine (SimSiam, BYOL)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from gvsl.losses.gather import gather, rank


def nt_xent(one: Tensor, other: Tensor, temperature: float = 0.5, subjects: Tensor | None = None) -> Tensor:
    """Normalised temperature-scaled cross-entropy (Chen et al. 2020, Eq. 1), in float32 at least.

    Each view has to find its twin among all other views, those of every process included: 2 * N - 2 negatives, where
    N counts the volumes of all processes. The loss is the mean over this process's views, so that its mean over the
    processes is the loss of one process that has them all.

    Args:
        one: embeddings of the first views, (B, C); of any scale.
        other: of the second views of the same volumes, (B, C).
        temperature: by which cosines are divided.
        subjects: (B,), int64, the same for volumes of one subject, in all processes: a batch of pairs may hold a
            subject twice, and its other volume is no negative. All are different if it is not given.

    Returns:
        a scalar, at least 0.

    Raises:
        ValueError: there is no negative: one volume in one process.
    """
    exact = torch.promote_types(one.dtype, torch.float32)
    with torch.autocast(one.device.type, enabled=False):
        mine = functional.normalize(torch.cat([one, other]).to(exact), dim=1)
        everyone = gather(mine)
        if len(everyone) < 4:
            raise ValueError("NT-Xent of one volume has no negatives: give at least 2")
        first = rank() * len(mine)
        place = torch.arange(len(mine), device=mine.device)
        cosines = mine @ everyone.T / temperature
        twins = first + (place + len(one)) % len(mine)
        left_out = torch.zeros_like(cosines, dtype=torch.bool)
        if subjects is not None:
            both = torch.cat([subjects, subjects])
            left_out = both[:, None] == gather(both)[None]
            left_out.scatter_(1, twins[:, None], False)
        left_out.scatter_(1, (first + place)[:, None], True)  # never itself
        return functional.cross_entropy(cosines.masked_fill(left_out, float("-inf")), twins)


def negative_cosine(predicted: Tensor, target: Tensor) -> Tensor:
    """Minus the mean cosine between predictions and targets, (B, C) each, in float32 at least.

    No gradient reaches the target (the stop-gradient of SimSiam and BYOL), and neither scale matters.

    Returns:
        a scalar in [-1, 1].
    """
    exact = torch.promote_types(predicted.dtype, torch.float32)
    return -functional.cosine_similarity(predicted.to(exact), target.detach().to(exact), dim=1).mean()


class NTXent(nn.Module):
    """`nt_xent` as a module."""

    def __init__(self, temperature: float = 0.5) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, one: Tensor, other: Tensor, subjects: Tensor | None = None) -> Tensor:
        """Two views' embeddings, (B, C) each, to a scalar."""
        return nt_xent(one, other, self.temperature, subjects)


class NegativeCosine(nn.Module):
    """`negative_cosine` as a module."""

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Predictions and targets, (B, C) each, to a scalar."""
        return negative_cosine(predicted, target)
