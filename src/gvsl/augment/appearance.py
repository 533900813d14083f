"""The transformation set T of GVSL, which changes appearance and not geometry (Appendix C)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gvsl.augment.inpaint import InpaintDraw, draw_inpaint, inpaint
from gvsl.augment.intensity import IntensityDraw, change_intensity, draw_intensity
from gvsl.augment.shuffle import ShuffleDraw, draw_shuffle, shuffle
from gvsl.settings.augment import AppearanceSettings as AppearanceSettings


class AppearanceDraw(NamedTuple):
    """Parameters of the three transforms for a batch."""

    shuffle: ShuffleDraw
    intensity: IntensityDraw
    inpaint: InpaintDraw


def draw_appearance(
    batch: int, shape: tuple[int, int, int], settings: AppearanceSettings, generator: torch.Generator, channels: int = 1
) -> AppearanceDraw:
    """Sample local shuffling, an intensity curve and in-painting for each of B volumes of `shape` (D, H, W).

    All channels of a volume are shuffled and painted alike, so that none shows what another has lost; each has its own
    curve.
    """
    return AppearanceDraw(
        draw_shuffle(batch, shape, settings.shuffle_rate, generator),
        draw_intensity(batch, settings.intensity_rate, generator, channels=channels),
        draw_inpaint(batch, shape, settings.inpaint_rate, generator),
    )


def change_appearance(image: Tensor, draw: AppearanceDraw) -> Tensor:
    """Apply the three transforms in order: (B, C, D, H, W), in [0, 1], to the same shape and range."""
    return inpaint(change_intensity(shuffle(image, draw.shuffle), draw.intensity), draw.inpaint)
