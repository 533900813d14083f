"""The non-linear intensity transform: a monotone cubic Bezier curve (Appendix C)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gvsl.augment.draw import rand

STEPS = 256
"""Intervals of the curve's lookup table, within which intensities are interpolated linearly."""


class IntensityDraw(NamedTuple):
    """A curve for each volume, or for each channel of each volume, as a lookup table over [0, 1]."""

    table: Tensor
    """(B or B C, STEPS + 1), increasing from 0 to 1, or decreasing from 1 to 0."""
    applies: Tensor
    """(B or B C, 1, 1, 1, 1), bool."""


def draw_intensity(
    batch: int, rate: float, generator: torch.Generator, falling: float = 0.0, channels: int = 1
) -> IntensityDraw:
    """Sample Bezier curves from (0, 0) to (1, 1) with two random control points in the unit square.

    Such a curve is monotone in both coordinates, so that different intensities stay different. A channel of a volume is
    changed with probability `rate`, by a curve of its own: the contrasts of two scans don't change alike. `falling` is
    the fraction of decreasing curves: one half in Models Genesis, none in GVSL.
    """
    device, curves = generator.device, batch * channels
    control = rand((batch, channels, 2, 2), generator).flatten(0, 1)
    t = torch.linspace(0, 1, 4 * STEPS + 1, device=device)
    first, second, third = 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3
    x, y = (control[:, 0, k, None] * first + control[:, 1, k, None] * second + third for k in (0, 1))
    at = torch.linspace(0, 1, STEPS + 1, device=device).expand(curves, -1).contiguous()
    above = torch.searchsorted(x.contiguous(), at).clamp(1, 4 * STEPS)
    left, right = x.gather(1, above - 1), x.gather(1, above)
    low, high = y.gather(1, above - 1), y.gather(1, above)
    table = low + (high - low) * ((at - left) / (right - left).clamp(min=1e-12)).clamp(0, 1)
    falls = rand((batch, channels), generator).view(curves, 1) < falling
    applies = rand((batch, channels), generator).view(curves, 1, 1, 1, 1) < rate
    return IntensityDraw(torch.where(falls, 1 - table, table), applies)


def change_intensity(image: Tensor, draw: IntensityDraw) -> Tensor:
    """Map the intensities of volumes, (B, C, D, H, W), in [0, 1], through their curves, or those of their channels."""
    curves = len(draw.table)
    position = image.clamp(0, 1).reshape(curves, -1).to(draw.table.dtype) * STEPS
    index = position.long().clamp(max=STEPS - 1)
    low, high = draw.table.gather(1, index), draw.table.gather(1, index + 1)
    changed = torch.lerp(low, high, position - index).view_as(image)
    return torch.where(draw.applies.view(len(image), curves // len(image), 1, 1, 1), changed.to(image.dtype), image)
