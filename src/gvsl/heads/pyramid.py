"""The pyramid head: local features of two volumes to a displacement field, coarse to fine."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from gvsl.backbones.blocks import SLOPE
from gvsl.geometry import compose, resize_dvf, spatial_shape, warp
from gvsl.heads.deformable import DeformableHead

PYRAMID_CHANNELS = 32
QUARTER_RADIUS = 2
"""Reach of the comparison at a quarter of the resolution, in its voxels: 8 voxels of the volume."""
HALF_RADIUS = 1
"""Reach of the comparison at half the resolution, in its voxels: 2 voxels of the volume."""
INITIAL_SCALE = 1e-3
"""Standard deviation of the coarse levels' last weights, for a field close to zero at the start."""


class PyramidHead(nn.Module):
    """Compare two volumes' local features at a quarter, half and full resolution, and refine the field at each.

    At a quarter and half of the resolution, each voxel of the fixed volume is correlated with its neighbourhood in the
    moving volume, warped by the field found so far; convolution groups turn the correlations into an update, which is
    composed with that field. Correlations make matching a property of the features: the same anatomy must look alike in
    both volumes. At full resolution the update comes from the features themselves, as in the paper's head.

    The strided convolutions centre a coarse voxel on the first of two fine ones, and the field is resampled as if it
    were on both; aligning either with the other matched worse (docs/results.md).

    Source: coarse-to-fine cost volumes of D. Sun, X. Yang, M.-Y. Liu and J. Kautz. PWC-Net: CNNs for Optical Flow Using
    Pyramid, Warping, and Cost Volume. CVPR 2018. https://arxiv.org/abs/1709.02371

    >>> features = torch.rand(1, 8, 8, 8, 8)
    >>> PyramidHead(channels=8)(features, features).shape
    torch.Size([1, 3, 8, 8, 8])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = PYRAMID_CHANNELS
        self.to_half = nn.Conv3d(channels, width, kernel_size=3, stride=2, padding=1)
        self.to_quarter = nn.Conv3d(width, width, kernel_size=3, stride=2, padding=1)
        self.quarter_update = DeformableHead(width, (2 * QUARTER_RADIUS + 1) ** 3 + width, INITIAL_SCALE)
        self.half_update = DeformableHead(width, (2 * HALF_RADIUS + 1) ** 3 + 2 * width, INITIAL_SCALE)
        self.full_update = DeformableHead(channels)

    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        """Predict the local field, in float32 or higher.

        Args:
            moving: local features of the moving volume, affinely warped onto the fixed grid, (B, C, D, H, W).
            fixed: local features of the fixed volume, (B, C, D, H, W).

        Returns:
            (B, 3, D, H, W), in voxels, on the fixed grid.
        """
        moving_half, moving_quarter = self._pyramid(moving)
        fixed_half, fixed_quarter = self._pyramid(fixed)
        dvf = self.quarter_update(_correlations(moving_quarter, fixed_quarter, QUARTER_RADIUS), fixed_quarter)
        dvf = resize_dvf(dvf, spatial_shape(fixed_half))
        warped = warp(moving_half, dvf, padding="border", exact=False)
        dvf = compose(dvf, self.half_update(_correlations(warped, fixed_half, HALF_RADIUS), warped, fixed_half))
        dvf = resize_dvf(dvf, spatial_shape(fixed))
        warped = warp(moving, dvf, padding="border", exact=False)
        return compose(dvf, self.full_update(warped, fixed))

    def _pyramid(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features at half and at a quarter of the resolution."""
        half = self.to_half(features)
        return half, self.to_quarter(functional.leaky_relu(half, SLOPE))


def _correlations(moving: Tensor, fixed: Tensor, radius: int) -> Tensor:
    """Correlate each voxel of the fixed features with its neighbourhood in the moving ones.

    Args:
        moving: (B, C, D, H, W).
        fixed: (B, C, D, H, W).
        radius: of the neighbourhood, a cube, in voxels; 0 beyond the border.

    Returns:
        The cosine for each of the (2 radius + 1)^3 offsets, (B, offsets, D, H, W).
    """
    moving, fixed = functional.normalize(moving, dim=1), functional.normalize(fixed, dim=1)
    correlations: Tensor = _ShiftedProducts.apply(functional.pad(moving, [radius] * 6), fixed)
    return correlations


class _ShiftedProducts(torch.autograd.Function):
    """Scalar products of features with shifted others; the gradient is added up in place, without a copy per shift."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, fixed: Tensor) -> Tensor:
        ctx.save_for_backward(padded, fixed)
        return torch.stack([(part * fixed).sum(dim=1) for part in _shifted(padded, fixed)], dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        padded, fixed = ctx.saved_tensors
        by_padded, by_fixed = torch.zeros_like(padded), torch.zeros_like(fixed)
        shifts = zip(_shifted(padded, fixed), _shifted(by_padded, fixed), gradient.split(1, dim=1), strict=True)
        for part, by_part, factor in shifts:
            by_part.addcmul_(factor, fixed)
            by_fixed.addcmul_(factor, part)
        return by_padded, by_fixed


def _shifted(padded: Tensor, fixed: Tensor) -> Iterator[Tensor]:
    """Yield the part of padded features at each offset of the neighbourhood, of the shape of the fixed ones; views."""
    depth, height, width = spatial_shape(fixed)
    i, j, k = (range(larger - side + 1) for larger, side in zip(padded.shape[2:], fixed.shape[2:], strict=True))
    for first, second, third in product(i, j, k):
        yield padded[:, :, first : first + depth, second : second + height, third : third + width]
