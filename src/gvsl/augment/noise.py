"""Additive Gaussian noise."""

import torch
from torch import Tensor

from gvsl.augment.draw import randn


def draw_noise(
    batch: int, shape: tuple[int, int, int], sigma: float, generator: torch.Generator, channels: int = 1
) -> Tensor:
    """Sample noise of standard deviation `sigma`, independent in each channel: (B, C, D, H, W)."""
    return sigma * randn((batch, channels, *shape), generator)


def add_noise(image: Tensor, noise: Tensor) -> Tensor:
    """Add noise to volumes, (B, C, D, H, W), without clipping to [0, 1], which would bias air and bone."""
    return image + noise.to(image.dtype)
