"""The transformation set T of GVSL: what an image looks like changes, where things are does not (Appendix C)."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gvsl.augment.inpaint import InpaintDraw, draw_inpaint, inpaint
from gvsl.augment.intensity import IntensityDraw, change_intensity, draw_intensity
from gvsl.augment.shuffle import ShuffleDraw, draw_shuffle, shuffle


@dataclass(frozen=True)
class AppearanceSettings:
    """How often each appearance transform is applied (published code's rates)."""

    shuffle_rate: float = 0.8
    """Probability of local shuffling."""
    intensity_rate: float = 0.9
    """Probability of the non-linear intensity curve."""
    inpaint_rate: float = 1.0
    """Probability of in-painting."""


class AppearanceDraw(NamedTuple):
    """One draw of the three transforms for a batch."""

    shuffle: ShuffleDraw
    intensity: IntensityDraw
    inpaint: InpaintDraw


def draw_appearance(
    batch: int, shape: tuple[int, int, int], settings: AppearanceSettings, generator: torch.Generator
) -> AppearanceDraw:
    """Draw local shuffling, an intensity curve and in-painting for each of B volumes of `shape` (D, H, W)."""
    return AppearanceDraw(
        draw_shuffle(batch, shape, settings.shuffle_rate, generator),
        draw_intensity(batch, settings.intensity_rate, generator),
        draw_inpaint(batch, shape, settings.inpaint_rate, generator),
    )


def change_appearance(image: Tensor, draw: AppearanceDraw) -> Tensor:
    """Apply the three transforms in turn: (B, C, D, H, W) in [0, 1] to the same, on the batch's device."""
    return inpaint(change_intensity(shuffle(image, draw.shuffle), draw.intensity), draw.inpaint)
