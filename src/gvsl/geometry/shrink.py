"""Volumes at a lower resolution."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from gvsl.geometry.grid import spatial_shape
from gvsl.geometry.smooth import gaussian_smooth


def shrink(images: Tensor, factor: int | Sequence[int]) -> Tensor:
    """Smooth images and shrink them by whole factors; sides that they do not divide are rounded down, to at least 1.

    Args:
        images: (B, C, D, H, W), floating point.
        factor: at least 1, which changes nothing; one for all axes or one each.

    Returns:
        (B, C, D // factor, H // factor, W // factor).

    >>> import torch
    >>> shrink(torch.ones(1, 1, 9, 8, 3), 4).shape
    torch.Size([1, 1, 2, 2, 1])
    """
    factors = (factor,) * 3 if isinstance(factor, int) else tuple(factor)
    if set(factors) == {1}:
        return images
    shape = tuple(max(side // each, 1) for side, each in zip(spatial_shape(images), factors, strict=True))
    smoothed = gaussian_smooth(images, [each / 2 if each > 1 else 0 for each in factors])
    return functional.interpolate(smoothed, size=shape, mode="trilinear")
