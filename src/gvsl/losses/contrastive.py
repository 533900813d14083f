"""Losses on pairs of embeddings: NT-Xent (SimCLR) and the negative cosine (SimSiam, BYOL)."""

import torch
from torch import Tensor
from torch.nn import functional


def nt_xent(
    first: Tensor,
    second: Tensor,
    keys: Tensor,
    temperature: float,
    *,
    gathered: tuple[Tensor, Tensor, Tensor] | None = None,
    offset: int = 0,
) -> Tensor:
    """Return the normalised, temperature-scaled cross entropy of each view's positive among all views.

    For a view i with positive j: -log(exp(s_ij / t) / sum over k of exp(s_ik / t)), with s the cosine similarity. k
    runs over all views except i itself and, apart from j, those of the same subject, which are no negatives. Averaged
    over both views of all volumes. Computed in float32 or higher. Source: Eq. 1 of Chen et al. (2020), SimCLR.

    Args:
        first: embeddings of one view of each volume, (N, d).
        second: embeddings of the other view, (N, d).
        keys: subject of each volume, (N,), integers.
        temperature: t.
        gathered: `first`, `second` and `keys` of all processes, (M, d), (M, d) and (M,), in distributed training.
        offset: index of this process's first row among the gathered ones.

    Raises:
        ValueError: all views are of one subject, so that there are no negatives. Only keys on a CPU are looked
            at, since that would empty a GPU's queue; each pair of a step is of two subjects.

    >>> round(float(nt_xent(torch.eye(2), torch.eye(2), torch.arange(2), temperature=0.5)), 4)
    0.2395
    """
    dtype = torch.promote_types(first.dtype, torch.float32)
    all_first, all_second, all_keys = gathered or (first, second, keys)
    if all_keys.device.type == "cpu" and bool((all_keys == all_keys[0]).all()):
        raise ValueError("NT-Xent needs a batch with two subjects or more, and this one has one: raise data.batch_size")
    with torch.autocast(first.device.type, enabled=False):
        anchors = functional.normalize(torch.cat([first, second]).to(dtype), dim=1)
        candidates = functional.normalize(torch.cat([all_first, all_second]).to(dtype), dim=1)
        logits = anchors @ candidates.T / temperature
    count, total = len(first), len(all_first)
    index = torch.arange(count, device=first.device) + offset
    itself, positive = torch.cat([index, index + total]), torch.cat([index + total, index])
    excluded = torch.cat([keys, keys])[:, None] == torch.cat([all_keys, all_keys])[None]
    excluded = excluded.scatter(1, positive[:, None], False).scatter(1, itself[:, None], True)
    return functional.cross_entropy(logits.masked_fill(excluded, -torch.inf), positive)


def negative_cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """Return -cos(prediction, target), averaged over rows; the target receives no gradient.

    Computed in float32 or higher.

    Args:
        prediction: (N, d).
        target: (N, d).

    Returns:
        A scalar in [-1, 1].

    >>> negative_cosine(torch.eye(2), 3 * torch.eye(2))
    tensor(-1.)
    """
    dtype = torch.promote_types(prediction.dtype, torch.float32)
    return -functional.cosine_similarity(prediction.to(dtype), target.detach().to(dtype), dim=1).mean()


def symmetric_negative_cosine(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of both directions of `negative_cosine` between two views.

    Source: Eq. 2 of Chen and He (2021), SimSiam.

    Args:
        predictions: of the first views, then of the second ones, (2 N, d).
        targets: in the same order, (2 N, d); each view's prediction is compared with the other view's target.

    Returns:
        A scalar in [-1, 1].

    >>> views = torch.eye(4)  # two volumes, two views each
    >>> symmetric_negative_cosine(views, views.roll(2, 0))
    tensor(-1.)
    """
    predicted_first, predicted_second = predictions.chunk(2)
    first, second = targets.chunk(2)
    return (negative_cosine(predicted_first, second) + negative_cosine(predicted_second, first)) / 2
