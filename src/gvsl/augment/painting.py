"""Erased boxes (context encoders) and inner and outer painting (Models Genesis)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gvsl.augment.draw import box_mask, boxes, happens


class ErasedDraw(NamedTuple):
    """What is erased, and what stands there instead."""

    erased: Tensor
    """(B, 1, D, H, W), bool."""
    filling: Tensor
    """(B, 1, D, H, W) in [0, 1)."""


def draw_erased(
    batch: int,
    shape: tuple[int, int, int],
    most: int,
    sides: tuple[float, float],
    generator: torch.Generator,
) -> ErasedDraw:
    """Draw from one to `most` boxes to be erased to 0.

    Args:
        batch: B.
        shape: (D, H, W).
        most: greatest number of boxes.
        sides: least and greatest side, as fractions of the volume's.
        generator: where the numbers come from.
    """
    device = generator.device
    start, stop = boxes(batch, most, shape, *sides, generator)
    count = torch.randint(1, most + 1, (batch, 1), generator=generator, device=device)
    there = torch.arange(most, device=device) < count
    erased = box_mask(start, torch.where(there[..., None], stop, start), shape)
    return ErasedDraw(erased, torch.zeros((batch, 1, *shape), device=device))


def draw_painting(
    batch: int, shape: tuple[int, int, int], rate: float, inner: float, generator: torch.Generator
) -> ErasedDraw:
    """Draw inner painting (boxes become noise) or outer painting (all but boxes becomes noise).

    Inner boxes have 1/6 to 1/3 of a side and are up to five; outer ones 3/7 to 4/7, up to five, so that much of
    the volume is left (Models Genesis).

    Args:
        batch: B.
        shape: (D, H, W).
        rate: probability that a volume is painted at all.
        inner: probability that a painted volume is painted inside rather than outside.
        generator: where the numbers come from.
    """
    within = draw_erased(batch, shape, 5, (1 / 6, 1 / 3), generator).erased
    outside = ~draw_erased(batch, shape, 5, (3 / 7, 4 / 7), generator).erased
    erased = torch.where(happens(batch, inner, generator), within, outside) & happens(batch, rate, generator)
    return ErasedDraw(erased, torch.rand((batch, 1, *shape), generator=generator, device=generator.device))


def erase(image: Tensor, draw: ErasedDraw) -> Tensor:
    """Replace what was drawn by its filling: (B, C, D, H, W) to the same."""
    return torch.where(draw.erased, draw.filling.to(image.dtype), image)
