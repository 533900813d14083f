"""The non-linear intensity transform: a monotone cubic Bezier curve (Appendix C)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gvsl.augment.draw import happens

STEPS = 256
"""Intervals of the curve's table, in which intensities are interpolated linearly."""


class IntensityDraw(NamedTuple):
    """A curve for each volume, as a table over [0, 1]."""

    table: Tensor
    """(B, STEPS + 1), increasing from 0 to 1, or decreasing from 1 to 0 in a curve that falls."""
    applies: Tensor
    """(B, 1, 1, 1, 1), bool."""


def draw_intensity(batch: int, rate: float, generator: torch.Generator, falling: float = 0.0) -> IntensityDraw:
    """Draw Bezier curves through (0, 0), two random control points in the unit square, and (1, 1).

    A cubic Bezier whose control points lie in the unit square is monotone in both coordinates, so every intensity
    keeps a value of its own.

    Args:
        batch: B.
        rate: probability that a volume is changed.
        generator: where the numbers come from.
        falling: share of curves that fall from (0, 1) to (1, 0); Models Genesis lets half of them, GVSL none.
    """
    device = generator.device
    control = torch.rand((batch, 2, 2), generator=generator, device=device)
    t = torch.linspace(0, 1, 4 * STEPS + 1, device=device)
    first, second, third = 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3
    x, y = (control[:, 0, k, None] * first + control[:, 1, k, None] * second + third for k in (0, 1))
    at = torch.linspace(0, 1, STEPS + 1, device=device).expand(batch, -1).contiguous()
    above = torch.searchsorted(x.contiguous(), at).clamp(1, 4 * STEPS)
    left, right = x.gather(1, above - 1), x.gather(1, above)
    low, high = y.gather(1, above - 1), y.gather(1, above)
    table = low + (high - low) * ((at - left) / (right - left).clamp(min=1e-12)).clamp(0, 1)
    falls = torch.rand((batch, 1), generator=generator, device=device) < falling
    return IntensityDraw(torch.where(falls, 1 - table, table), happens(batch, rate, generator))


def change_intensity(image: Tensor, draw: IntensityDraw) -> Tensor:
    """Map intensities through each volume's curve: (B, C, D, H, W) in [0, 1] to the same."""
    position = image.clamp(0, 1).flatten(1).to(draw.table.dtype) * STEPS
    index = position.long().clamp(max=STEPS - 1)
    low, high = draw.table.gather(1, index), draw.table.gather(1, index + 1)
    changed = torch.lerp(low, high, position - index).view_as(image)
    return torch.where(draw.applies, changed.to(image.dtype), image)
