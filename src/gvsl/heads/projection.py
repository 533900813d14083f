"""Projection and prediction heads: pooled features to embeddings."""

from itertools import pairwise

from torch import Tensor, nn

from gvsl.backbones.blocks import SLOPE


class ProjectionHead(nn.Module):
    """Linear layers, all but the last followed by LayerNorm and LeakyReLU.

    Their papers normalise over the batch. At 2 to 8 volumes a batch its statistics are noise, and they would tie a
    volume's embedding to its neighbours'; layer normalisation knows one row alone. The leak keeps every unit trained
    where no row of a small batch is above zero.
    """

    def __init__(self, channels: int, *sizes: int, normalise_last: bool = False) -> None:
        """Make the head.

        Args:
            channels: features in.
            sizes: features out of each layer.
            normalise_last: normalise what comes out too, as SimSiam's projector does.
        """
        super().__init__()
        layers: list[nn.Module] = []
        for index, (into, out) in enumerate(pairwise([channels, *sizes]), 1):
            last = index == len(sizes)
            normalised = normalise_last or not last
            layers.append(nn.Linear(into, out, bias=not normalised))
            layers += [nn.LayerNorm(out, elementwise_affine=not last)] if normalised else []
            layers += [] if last else [nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Embed: (B, channels) to (B, last size)."""
        embedded: Tensor = self.layers(features)
        return embedded
