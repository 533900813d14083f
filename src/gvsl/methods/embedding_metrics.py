"""Metrics of a batch of embeddings: collapse and instance retrieval."""

import torch
from torch import Tensor
from torch.nn import functional

from gvsl.records.metrics import LoggedMetric

EMBEDDING_METRICS = (
    LoggedMetric("embedding_std", "Standard deviation of the embeddings", "higher"),
    LoggedMetric("effective_rank", "Effective rank of the embeddings", "higher"),
)


@torch.no_grad()
def embedding_metrics(embeddings: Tensor) -> dict[str, Tensor]:
    """Measure how different the embeddings of a batch are, to detect a collapse.

    Args:
        embeddings: (N, d), at least two rows.

    Returns:
        `embedding_std`: standard deviation over the batch of the embeddings scaled to length 1, times the square root
        of d: 1 for uniform directions, 0 for equal embeddings. `effective_rank`: exponential of the entropy of the
        singular values of the same embeddings about their mean (Roy and Vetterli, 2007), from 1 to N - 1.

    >>> round(float(embedding_metrics(torch.eye(8))["effective_rank"]), 2)
    7.0
    """
    units = functional.normalize(embeddings.float(), dim=1)
    centred = units - units.mean(dim=0)
    values = torch.linalg.svdvals(centred)
    fractions = values / values.sum().clamp(min=1e-12)
    entropy = -(fractions * fractions.clamp(min=1e-12).log()).sum()
    return {"embedding_std": centred.square().mean(dim=0).sum().sqrt(), "effective_rank": entropy.exp()}


@torch.no_grad()
def retrieval_accuracy(first: Tensor, second: Tensor, keys: Tensor) -> Tensor:
    """Return the fraction of views whose nearest neighbour by cosine, among all other views, is a positive.

    Args:
        first: embeddings of one view of each volume, (N, d).
        second: embeddings of the other view, (N, d).
        keys: subject of each volume, (N,); all views of a subject are positives of each other.

    Returns:
        A scalar in [0, 1]; the chance level is 1 / (2 N - 1).

    >>> retrieval_accuracy(torch.eye(3), torch.eye(3), torch.arange(3))
    tensor(1.)
    """
    units = functional.normalize(torch.cat([first, second]).float(), dim=1)
    nearest = (units @ units.T).fill_diagonal_(-torch.inf).argmax(dim=1)
    subjects = torch.cat([keys, keys])
    return (subjects[nearest] == subjects).float().mean()
