"""What the layers of a backbone do on some volumes: which channels vary, and on which side of their activation."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gvsl.backbones import Backbone
from gvsl.types import Features

ACTIVATIONS = (nn.LeakyReLU, nn.ReLU, nn.ELU, nn.GELU, nn.SiLU, nn.PReLU)
MAX_POSITIONS = 5000
"""Positions of a volume's features from which the correlation of channels is computed."""


@dataclass
class Activity:
    """Sums over all positions of all volumes, (channels,) each, of one activation's output."""

    count: int
    total: Tensor
    squares: Tensor
    below: Tensor
    """The number of values below 0."""

    @property
    def deviation(self) -> Tensor:
        """Standard deviation of each channel."""
        return (self.squares / self.count - (self.total / self.count).square()).clamp_min(0).sqrt()

    @property
    def size(self) -> float:
        """Root mean square of all values."""
        return float((self.squares / self.count).mean().sqrt())

    @property
    def one_sided(self) -> Tensor:
        """True for each channel all of whose values have one sign."""
        return (self.below == 0) | (self.below == self.count)


@torch.no_grad()
def observe(backbone: Backbone, volumes: Sequence[Tensor]) -> tuple[dict[str, Activity], list[Features]]:
    """Run a backbone on volumes; return the activity of each layer by name, and the features of each volume.

    Args:
        backbone: in eval mode.
        volumes: (1, C, D, H, W) each.
    """
    found: dict[str, Activity] = {}
    layers = [(name, part) for name, part in backbone.named_modules() if isinstance(part, ACTIVATIONS)]
    hooks = [part.register_forward_hook(partial(_add, found, name)) for name, part in layers]
    try:
        return found, [backbone(volume) for volume in volumes]
    finally:
        for hook in hooks:
            hook.remove()


def layer_title(name: str) -> str:
    """Return the name of a layer for a reader.

    >>> layer_title("encoder.0.1.2"), layer_title("encoder.stages.2.blocks.0.nonlin2"), layer_title("stem.act")
    ('encoder.0', 'encoder.stages.2', 'stem.act')
    """
    found = re.match(r"(encoder|decoder)\.((stages\.)?\d+|stem)", name)
    return found[0] if found else name


def effective_rank(features: Sequence[Tensor]) -> float:
    """Return how many directions the channels of features, (1, C, d, h, w) each, spread over, each scaled alike.

    The exponential of the entropy of the eigenvalues of their correlation: 1 if all vary together; 0 if none varies.
    """
    rows = torch.cat([_some(each) for each in features]).double()
    spread = rows.std(0)
    rows = rows[:, spread > 0]
    if not rows.shape[1]:
        return 0.0
    standardised = (rows - rows.mean(0)) / rows.std(0)
    values = torch.linalg.svdvals(standardised).square()
    share = values / values.sum()
    return float(torch.special.entr(share).sum().exp())


def largest_difference(features: Sequence[Tensor]) -> float:
    """Return the largest difference of any features from the first, relative to its size."""
    first, *others = features
    size = float(first.norm())
    return max(float((other - first).norm()) for other in others) / size if size else 0.0


def _add(found: dict[str, Activity], name: str, layer: nn.Module, inputs: Any, output: Tensor) -> None:
    """Add an activation's output, as a forward hook."""
    values = output.transpose(0, 1).flatten(1).double()
    sums = Activity(values.shape[1], values.sum(1), values.square().sum(1), (values < 0).sum(1))
    if name in found:
        old = found[name]
        sums.count += old.count
        sums.total += old.total
        sums.squares += old.squares
        sums.below += old.below
    found[name] = sums


def _some(features: Tensor) -> Tensor:
    """Return features at evenly spaced positions, (positions, C)."""
    rows = features.transpose(0, 1).flatten(1).T
    return rows[:: max(1, len(rows) // MAX_POSITIONS)]
