"""Gaussian smoothing of volumes and fields."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from gvsl.geometry.grid import spatial_shape

REACH = 2.5
"""Half the kernel's length, in standard deviations."""


MATRIX_SIDE = 64
"""Longest side in voxels that `smoother` smooths by products with matrices, in half of the time of convolutions."""


def gaussian_smooth(volumes: Tensor, sigma: float | Sequence[float]) -> Tensor:
    """Smooth each channel by a Gaussian kernel; beyond the border the nearest voxel is repeated.

    Computed in float32 or higher, under any autocast.

    Args:
        volumes: (B, C, D, H, W).
        sigma: standard deviation in voxels, one for all axes or one each; 0 smooths nothing.

    Returns:
        (B, C, D, H, W).

    Raises:
        ValueError: sigma is negative.

    >>> bool(gaussian_smooth(torch.ones(1, 1, 3, 3, 3), 1.0).allclose(torch.ones(1)))
    True
    """
    if sigma == 0:
        return volumes
    smoothed = volumes.to(torch.promote_types(volumes.dtype, torch.float32))
    if isinstance(sigma, int | float):
        kernels = [_kernel(smoothed, sigma)] * 3
    else:
        kernels = [_kernel(smoothed, each) for each in sigma]
    with torch.autocast(smoothed.device.type, enabled=False):
        for axis, kernel in enumerate(kernels):
            if len(kernel) > 1:
                smoothed = _by_convolution(smoothed, kernel, axis)
    return smoothed


def smoother(like: Tensor, sigma: float) -> Callable[[Tensor], Tensor]:
    """Return `gaussian_smooth` with one sigma, faster for volumes that are smoothed many times.

    On a CPU short sides are smoothed by a matrix each: equal within rounding, which constant volumes show too.

    Args:
        like: (B, C, D, H, W), a volume of the shape, the type and the device of those to smooth.
        sigma: standard deviation in voxels; 0 returns the volumes as they are.

    Raises:
        ValueError: sigma is negative.

    >>> volume = torch.rand(1, 1, 8, 8, 8)
    >>> torch.allclose(smoother(volume, 1.0)(volume), gaussian_smooth(volume, 1.0), atol=1e-6)
    True
    """
    sides = spatial_shape(like)
    if sigma == 0 or like.device.type != "cpu" or max(sides) > MATRIX_SIDE:
        return partial(gaussian_smooth, sigma=sigma)
    kernel = _kernel(like.to(torch.promote_types(like.dtype, torch.float32)), sigma)
    by_side = {side: _matrix(side, kernel) for side in set(sides)}
    matrices = [by_side[side] for side in sides]

    def smooth(volumes: Tensor) -> Tensor:
        smoothed = volumes.to(kernel.dtype)
        with torch.autocast("cpu", enabled=False):
            for axis, matrix in enumerate(matrices):
                smoothed = _by_matrix(smoothed, matrix, axis)
        return smoothed

    return smooth


def _kernel(like: Tensor, sigma: float) -> Tensor:
    """Return a Gaussian kernel of the type and on the device of a volume; ValueError if its width is negative."""
    if sigma < 0:
        raise ValueError(f"sigma is {sigma:g} voxels: give 0 or more")
    half = math.ceil(REACH * sigma)
    if not half:
        return like.new_ones(1)
    places = torch.arange(-half, half + 1, dtype=like.dtype, device=like.device)
    kernel = torch.exp(-places.square() / (2 * sigma**2))
    return kernel / kernel.sum()


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
