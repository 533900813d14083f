"""Projection and prediction heads: pooled features to embeddings."""

from itertools import pairwise

from torch import Tensor, nn

from gvsl.backbones.blocks import SLOPE
from gvsl.settings.methods import HeadNorm as HeadNorm


class ProjectionHead(nn.Module):
    """Linear layers, of which all but the last are normalised and followed by LeakyReLU.

    Unlike ReLU, it keeps a gradient for units that are negative on every row of a small batch.

    >>> import torch
    >>> ProjectionHead(128, 64, 32)(torch.rand(4, 128)).shape
    torch.Size([4, 32])
    """

    def __init__(self, channels: int, *sizes: int, norm: HeadNorm = "layer", normalise_last: bool = False) -> None:
        """Create the layers.

        Args:
            channels: size of the input features.
            sizes: output size of each layer.
            norm: "layer" normalises each row by itself; "batch" normalises each feature over the batch, which separates
                almost equal rows and so keeps SimSiam and BYOL from collapsing. It needs two rows or more.
            normalise_last: normalise the output too, without an affine scale, as SimSiam's projector does.
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
