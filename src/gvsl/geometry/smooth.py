"""Gaussian smoothing of volumes and fields."""

import math

import torch
from torch import Tensor
from torch.nn import functional

REACH = 2.5
"""Half the kernel's length, in standard deviations."""


def gaussian_smooth(volumes: Tensor, sigma: float) -> Tensor:
    """Smooth each channel by a Gaussian kernel; beyond the border the nearest voxel is repeated.

    Computed in float32 or higher, under any autocast.

    Args:
        volumes: (B, C, D, H, W).
        sigma: standard deviation in voxels; 0 returns the volumes as they are.

    Returns:
        (B, C, D, H, W).

    Raises:
        ValueError: sigma is negative.

    >>> bool(gaussian_smooth(torch.ones(1, 1, 3, 3, 3), 1.0).allclose(torch.ones(1)))
    True
    """
    if sigma < 0:
        raise ValueError(f"sigma is {sigma:g} voxels: give 0 or more")
    if sigma == 0:
        return volumes
    smoothed = volumes.to(torch.promote_types(volumes.dtype, torch.float32))
    half = math.ceil(REACH * sigma)
    kernel = torch.exp(
        -torch.arange(-half, half + 1, dtype=smoothed.dtype, device=smoothed.device).square() / (2 * sigma**2)
    )
    kernel = kernel / kernel.sum()
    channels = smoothed.shape[1]
    with torch.autocast(smoothed.device.type, enabled=False):
        for axis in range(3):
            sides, padding = [1, 1, 1], [0] * 6
            sides[axis] = 2 * half + 1
            padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = half
            weight = kernel.view(1, 1, *sides).expand(channels, 1, *sides).contiguous()
            smoothed = functional.conv3d(functional.pad(smoothed, padding, mode="replicate"), weight, groups=channels)
    return smoothed
