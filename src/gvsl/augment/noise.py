"""Gaussian noise, added voxel by voxel."""

import torch
from torch import Tensor


def draw_noise(batch: int, shape: tuple[int, int, int], sigma: float, generator: torch.Generator) -> Tensor:
    """Draw noise of standard deviation `sigma`: (B, 1, D, H, W)."""
    return sigma * torch.randn((batch, 1, *shape), generator=generator, device=generator.device)


def add_noise(image: Tensor, noise: Tensor) -> Tensor:
    """Add drawn noise: (B, C, D, H, W) to the same; values may leave [0, 1], for clipping would bias air and bone."""
    return image + noise.to(image.dtype)
