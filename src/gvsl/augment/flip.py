"""Random flips along one axis, or along several."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gvsl.augment.draw import bernoulli, rand, randint
from gvsl.geometry import constants


def draw_flip(batch: int, rate: float, generator: torch.Generator) -> Tensor:
    """Sample one axis to flip for each volume, with probability `rate`: (B, 3, 1, 1, 1, 1), bool."""
    axis = randint(0, 3, (batch, 1), generator)
    chosen = (torch.arange(3, device=axis.device) == axis).view(batch, 3, 1, 1, 1, 1)
    return chosen & bernoulli(batch, rate, generator)[:, None]


def draw_mirror(batch: int, axes: Sequence[int], generator: torch.Generator) -> Tensor:
    """Sample whether to flip each volume along each of `axes`, with probability 1/2: (B, 3, 1, 1, 1, 1), bool."""
    chosen = rand((batch, 3), generator) < 0.5
    allowed = constants([axis in axes for axis in range(3)], torch.bool, generator.device)
    return (chosen & allowed).view(batch, 3, 1, 1, 1, 1)


def flip(image: Tensor, draw: Tensor) -> Tensor:
    """Flip volumes, (B, C, D, H, W), along the sampled axes."""
    for axis in range(3):
        image = torch.where(draw[:, axis], image.flip(2 + axis), image)
    return image
