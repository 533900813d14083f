"""Gaussian smoothing of volumes and fields."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from gvsl.geometry.grid import spatial_shape

REACH = 2.5
"""Half the kernel's length, in standard deviations."""


MATRIX_SIDE = 64
"""Longest side in voxels along which a CPU smooths by a product with a matrix: there, less than half of the time of a
convolution."""


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
    return smoother(volumes, sigma)(volumes)


def smoother(like: Tensor, sigma: float) -> Callable[[Tensor], Tensor]:
    """Return `gaussian_smooth` for volumes of one shape, type and device, for those who smooth often.

    Args:
        like: (B, C, D, H, W).
        sigma: standard deviation in voxels; 0 returns the volumes as they are.

    Raises:
        ValueError: sigma is negative.
    """
    if sigma < 0:
        raise ValueError(f"sigma is {sigma:g} voxels: give 0 or more")
    if sigma == 0:
        return lambda volumes: volumes
    dtype, half = torch.promote_types(like.dtype, torch.float32), math.ceil(REACH * sigma)
    kernel = torch.exp(-torch.arange(-half, half + 1, dtype=dtype, device=like.device).square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    sides = spatial_shape(like)
    small = {side for side in sides if like.device.type == "cpu" and side <= MATRIX_SIDE}
    matrices = {side: _matrix(side, kernel) for side in small}

    def smooth(volumes: Tensor) -> Tensor:
        smoothed = volumes.to(dtype)
        with torch.autocast(smoothed.device.type, enabled=False):
            for axis, side in enumerate(sides):
                if side in matrices:
                    smoothed = _by_matrix(smoothed, matrices[side], axis)
                else:
                    smoothed = _by_convolution(smoothed, kernel, axis)
        return smoothed

    return smooth


def _by_convolution(volumes: Tensor, kernel: Tensor, axis: int) -> Tensor:
    """Smooth volumes along one spatial axis."""
    channels, half = volumes.shape[1], len(kernel) // 2
    sides, padding = [1, 1, 1], [0] * 6
    sides[axis] = len(kernel)
    padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = half
    weight = kernel.view(1, 1, *sides).expand(channels, 1, *sides).contiguous()
    return functional.conv3d(functional.pad(volumes, padding, mode="replicate"), weight, groups=channels)


def _matrix(side: int, kernel: Tensor) -> Tensor:
    """Return the matrix, (side, side), whose columns are the smoothed unit vectors."""
    half = len(kernel) // 2
    units = functional.pad(torch.eye(side, dtype=kernel.dtype)[:, None], (half, half), mode="replicate")
    with torch.autocast("cpu", enabled=False):
        return functional.conv1d(units, kernel.view(1, 1, -1))[:, 0].T.contiguous()


def _by_matrix(volumes: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """Smooth volumes along one spatial axis."""
    if axis == 2:
        return volumes @ matrix.T
    lines = volumes.flatten(3) if axis == 0 else volumes
    return (matrix @ lines).view(volumes.shape)
