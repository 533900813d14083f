"""Displacement vector fields on other grids, and their composition."""

from torch import Tensor
from torch.nn import functional

from gvsl.geometry.grid import constants, spatial_shape
from gvsl.geometry.warp import warp


def resize_dvf(dvf: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Resample a field to a grid of other voxels over the same extent, and convert it to their size.

    Args:
        dvf: (B, 3, D, H, W), in voxels.
        shape: (D', H', W') of the other grid.

    Returns:
        (B, 3, D', H', W'), in voxels of the other grid.

    >>> import torch
    >>> resize_dvf(torch.ones(1, 3, 2, 2, 2), (4, 4, 4)).mean()
    tensor(2.)
    """
    if spatial_shape(dvf) == tuple(shape):
        return dvf
    factors = [new / old for new, old in zip(shape, spatial_shape(dvf), strict=True)]
    resized = functional.interpolate(dvf, size=shape, mode="trilinear", align_corners=False)
    return resized * constants(factors, dvf.dtype, dvf.device).view(1, 3, 1, 1, 1)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """Return the field of the map p -> outer(inner(p)), each (B, 3, D, H, W) in voxels.

    Beyond the border the outer field's last value is repeated.

    >>> import torch
    >>> shift = torch.ones(1, 3, 4, 4, 4)
    >>> compose(shift, 2 * shift).unique()
    tensor([3.])
    """
    return warp(outer, inner, padding="border", exact=False) + inner
