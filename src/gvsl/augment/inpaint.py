"""In-painting: boxes are replaced by uniform noise (Appendix C)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gvsl.augment.draw import bernoulli, box_mask, boxes, rand

SIDES = (1 / 10, 1 / 5)
"""Minimum and maximum side of a box, as fractions of the volume's side."""
MAX_BOXES = 30
NEXT_BOX = 0.95
"""Probability of each box after the first."""


class InpaintDraw(NamedTuple):
    """The boxes and the noise that fills them."""

    erased: Tensor
    """(B, 1, D, H, W), bool."""
    noise: Tensor
    """(B, 1, D, H, W), in [0, 1)."""


def draw_inpaint(
    batch: int,
    shape: tuple[int, int, int],
    rate: float,
    generator: torch.Generator,
    sides: tuple[float, float] = SIDES,
    max_boxes: int = MAX_BOXES,
) -> InpaintDraw:
    """Sample boxes to erase in volumes of `shape` (D, H, W), each after the first with probability 0.95, and noise.

    A volume is changed with probability `rate`. `sides` are the minimum and the maximum side of a box, as fractions of
    the volume's side.
    """
    start, stop = boxes(batch, max_boxes, shape, sides, generator)
    continues = rand((batch, max_boxes), generator) < NEXT_BOX
    continues[:, 0] = True
    exists = continues.cumprod(dim=1)[..., None]
    erased = box_mask(start, torch.where(exists > 0, stop, start), shape) & bernoulli(batch, rate, generator)
    return InpaintDraw(erased, rand((batch, 1, *shape), generator))


def inpaint(image: Tensor, draw: InpaintDraw) -> Tensor:
    """Replace the sampled boxes of volumes, (B, C, D, H, W), by noise in [0, 1)."""
    return torch.where(draw.erased, draw.noise.to(image.dtype), image)
