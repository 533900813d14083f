"""Projectors and predictors of the contrastive methods, and what shows whether their embeddings collapse."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


def multilayer(channels: int, hidden: int, out: int, layers: int) -> nn.Sequential:
    """Linear layers with LayerNorm and ReLU between them, (B, channels) to (B, out).

    LayerNorm stands where the methods' papers have batch normalisation: over the 2 to 16 views of a step in 3D a
    batch's statistics are noise, and at a batch of two they say only which of the two is larger.

    Args:
        channels: in.
        hidden: of each layer but the last.
        out: of the last, which is linear.
        layers: linear layers in all, at least 1.
    """
    sizes = [channels, *[hidden] * (layers - 1)]
    parts: list[nn.Module] = []
    for before, after in pairwise(sizes):
        parts += [nn.Linear(before, after), nn.LayerNorm(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*parts, nn.Linear(sizes[-1], out))


class EmbeddingMonitor(nn.Module):
    """Remembers the last embeddings and says how far they spread: a run whose embeddings agree has collapsed."""

    memory: Tensor
    count: Tensor

    def __init__(self, channels: int, remembered: int = 64) -> None:
        super().__init__()
        self.register_buffer("memory", torch.zeros(remembered, channels))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def forward(self, embeddings: Tensor) -> dict[str, Tensor]:
        """Remember (B, C) embeddings.

        Returns:
            `embedding_std`, the mean standard deviation of a channel of the normalised embeddings times the root of
            their number: near 1 where they spread over the sphere, 0 where they agree (Chen & He 2021, Fig. 2); and
            `embedding_rank`, the effective rank of the centred embeddings (Roy & Vetterli 2007), from 1 up to the
            channels or the embeddings remembered. Both 0 while fewer than two are remembered.
        """
        size = len(self.memory)
        for one in functional.normalize(embeddings.float(), dim=1):
            self.memory[self.count % size] = one.to(self.memory.dtype)
            self.count += 1
        known = self.memory[: int(self.count.clamp(max=size))]
        if len(known) < 2:
            return {"embedding_std": self.memory.new_zeros(()), "embedding_rank": self.memory.new_zeros(())}
        return {
            "embedding_std": known.std(dim=0).mean() * known.shape[1] ** 0.5,
            "embedding_rank": effective_rank(known),
        }


def effective_rank(embeddings: Tensor) -> Tensor:
    """The exponential of the entropy of the singular values of centred embeddings (N, C): from 1 to min(N - 1, C).

    Embeddings that all agree have rank 1.
    """
    values = torch.linalg.svdvals((embeddings - embeddings.mean(dim=0)).double())
    shares = values / values.sum().clamp_min(torch.finfo(torch.float64).tiny)
    return torch.exp(-torch.special.xlogy(shares, shares).sum()).float()
