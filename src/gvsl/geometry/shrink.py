"""Volumes at a lower resolution."""

from torch import Tensor
from torch.nn import functional

from gvsl.geometry.grid import spatial_shape
from gvsl.geometry.smooth import gaussian_smooth


def shrink(images: Tensor, factor: int) -> Tensor:
    """Smooth images and shrink them by a whole factor; sides that it does not divide are rounded down, to at least 1.

    Args:
        images: (B, C, D, H, W), floating point.
        factor: at least 1, which changes nothing.

    Returns:
        (B, C, D // factor, H // factor, W // factor).

    >>> import torch
    >>> shrink(torch.ones(1, 1, 9, 8, 3), 4).shape
    torch.Size([1, 1, 2, 2, 1])
    """
    if factor == 1:
        return images
    shape = tuple(max(side // factor, 1) for side in spatial_shape(images))
    return functional.interpolate(gaussian_smooth(images, factor / 2), size=shape, mode="trilinear")
