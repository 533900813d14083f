"""Flips along the volume's axes."""

import torch
from torch import Tensor

from gvsl.augment.draw import happens


def draw_flip(batch: int, rate: float, generator: torch.Generator) -> Tensor:
    """Draw, with probability `rate` a volume, one axis to flip: (B, 3, 1, 1, 1, 1), bool."""
    axis = torch.randint(3, (batch, 1), generator=generator, device=generator.device)
    chosen = (torch.arange(3, device=axis.device) == axis).view(batch, 3, 1, 1, 1, 1)
    return chosen & happens(batch, rate, generator)[:, None]


def flip(image: Tensor, draw: Tensor) -> Tensor:
    """Flip volumes along the drawn axes: (B, C, D, H, W) to the same."""
    for axis in range(3):
        image = torch.where(draw[:, axis], image.flip(2 + axis), image)
    return image
