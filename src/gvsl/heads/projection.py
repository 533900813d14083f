"""Projection and prediction heads: pooled features to embeddings."""

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from gvsl.backbones.blocks import SLOPE

HeadNorm = Literal["batch", "layer"]


class ProjectionHead(nn.Module):
    """Linear layers, all but the last normalised and followed by LeakyReLU.

    The leak keeps every unit trained where no row of a small batch is above zero.
    """

    def __init__(self, channels: int, *sizes: int, norm: HeadNorm = "layer", normalise_last: bool = False) -> None:
        """Make the head.

        Args:
            channels: features in.
            sizes: features out of each layer.
            norm: "layer" knows one row alone; "batch" normalises each feature over the batch, so that rows which are
                all alike are told apart: what keeps SimSiam and BYOL from collapsing. It needs two subjects or more.
            normalise_last: normalise what comes out too, without a scale of its own, as SimSiam's projector does.
        """
        super().__init__()
        layers: list[nn.Module] = []
        for index, (into, out) in enumerate(pairwise([channels, *sizes]), 1):
            last = index == len(sizes)
            normalised = normalise_last or not last
            layers.append(nn.Linear(into, out, bias=not normalised))
            if normalised and norm == "batch":
                layers.append(nn.BatchNorm1d(out, affine=not last))
            elif normalised:
                layers.append(nn.LayerNorm(out, elementwise_affine=not last))
            layers += [] if last else [nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Embed: (B, channels) to (B, last size)."""
        embedded: Tensor = self.layers(features)
        return embedded
