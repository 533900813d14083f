"""Gaussian noise."""

import torch
from torch import Tensor


def draw_noise(shape: tuple[int, ...], sigma: float, generator: torch.Generator) -> Tensor:
    """Draw Gaussian noise of a standard deviation: a tensor of `shape`, float32, on the generator's device."""
    return sigma * torch.randn(shape, generator=generator, device=generator.device)


def add_noise(image: Tensor, noise: Tensor) -> Tensor:
    """Add noise: (B, C, D, H, W) to the same, unbounded, so that noise of mean zero stays that."""
    return image + noise.to(image.dtype)
