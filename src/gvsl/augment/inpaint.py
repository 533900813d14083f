"""In-painting: boxes are replaced by uniform noise (Appendix C)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gvsl.augment.draw import box_mask, boxes, happens

SMALLEST_SIDE, LARGEST_SIDE = 1 / 10, 1 / 5
MOST_BOXES = 30
NEXT_BOX = 0.95
"""Probability of each next box after the first."""


class InpaintDraw(NamedTuple):
    """The boxes and the noise that fills them."""

    erased: Tensor
    """(B, 1, D, H, W), bool."""
    noise: Tensor
    """(B, 1, D, H, W) in [0, 1)."""


def draw_inpaint(
    batch: int,
    shape: tuple[int, int, int],
    rate: float,
    generator: torch.Generator,
    *,
    smallest: float = SMALLEST_SIDE,
    largest: float = LARGEST_SIDE,
    most: int = MOST_BOXES,
) -> InpaintDraw:
    """Draw boxes to erase, each next one with probability 0.95, and uniform noise.

    Args:
        batch: B.
        shape: (D, H, W).
        rate: probability that a volume is changed.
        generator: where the numbers come from.
        smallest: least side of a box, of the volume's side.
        largest: greatest side of a box, of the volume's side.
        most: the most boxes a volume.
    """
    device = generator.device
    start, stop = boxes(batch, most, shape, smallest, largest, generator)
    goes_on = torch.rand((batch, most), generator=generator, device=device) < NEXT_BOX
    goes_on[:, 0] = True
    there = goes_on.cumprod(dim=1)[..., None]
    erased = box_mask(start, torch.where(there > 0, stop, start), shape) & happens(batch, rate, generator)
    return InpaintDraw(erased, torch.rand((batch, 1, *shape), generator=generator, device=device))


def inpaint(image: Tensor, draw: InpaintDraw) -> Tensor:
    """Replace the drawn boxes by noise: (B, C, D, H, W) in [0, 1] to the same."""
    return torch.where(draw.erased, draw.noise.to(image.dtype), image)
