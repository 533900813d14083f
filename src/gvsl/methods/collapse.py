"""Measures by which a collapse of the embeddings shows."""

import torch
from torch import Tensor
from torch.nn import functional

from gvsl.records.metrics import LoggedMetric

EMBEDDING_METRICS = (
    LoggedMetric("embedding_std", "Standard deviation of the embeddings", "higher"),
    LoggedMetric("effective_rank", "Effective rank of the embeddings", "higher"),
)


@torch.no_grad()
def embedding_measures(embeddings: Tensor) -> dict[str, Tensor]:
    """How different a batch's embeddings are: (N, d), two rows or more.

    Returns:
        `embedding_std`: standard deviation of the embeddings brought to length 1, over the batch, times the root of d:
        1 where they point everywhere alike, 0 where all are one. `effective_rank`: exponential of the entropy of the
        singular values of the same embeddings about their mean (Roy and Vetterli, 2007), from 1 to N - 1.
    """
    units = functional.normalize(embeddings.float(), dim=1)
    centred = units - units.mean(dim=0)
    values = torch.linalg.svdvals(centred)
    shares = values / values.sum().clamp(min=1e-12)
    entropy = -(shares * shares.clamp(min=1e-12).log()).sum()
    return {"embedding_std": centred.square().mean(dim=0).sum().sqrt(), "effective_rank": entropy.exp()}


@torch.no_grad()
def twin_accuracy(first: Tensor, second: Tensor, keys: Tensor) -> Tensor:
    """How often a view's nearest neighbour by cosine, among the other views of the batch, is its twin.

    Args:
        first: embeddings of one view of each volume, (N, d).
        second: of the other view, (N, d).
        keys: which subject each volume is of, (N,); views of a subject that is there twice are all twins.

    Returns:
        a scalar in [0, 1]; chance is 1 / (2 N - 1).
    """
    units = functional.normalize(torch.cat([first, second]).float(), dim=1)
    nearest = (units @ units.T).fill_diagonal_(-torch.inf).argmax(dim=1)
    both = torch.cat([keys, keys])
    return (both[nearest] == both).float().mean()
