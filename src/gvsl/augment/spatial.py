"""Spatial augmentation: one random affine and elastic field, applied in one interpolation.

It is in the published code of GVSL, and not in the paper.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from gvsl.augment.draw import bernoulli, randn, uniform
from gvsl.geometry import ALIGN_CORNERS, affine_matrix, constants, fuse
from gvsl.settings.augment import SpatialSettings as SpatialSettings


def draw_spatial(
    batch: int, shape: tuple[int, int, int], settings: SpatialSettings, generator: torch.Generator
) -> Tensor:
    """Sample a spatial transform for each of B volumes of `shape` (D, H, W).

    Returns:
        A displacement vector field, (B, 3, D, H, W), in voxels, for `gvsl.geometry.warp`.
    """
    device = generator.device
    sides = constants(shape, torch.float32, device)
    angle, shear = math.radians(settings.rotation), math.tan(math.radians(settings.shear))
    matrix = affine_matrix(
        rotation=uniform((batch, 3), -angle, angle, generator),
        translation=uniform((batch, 3), -settings.translation, settings.translation, generator) * sides,
        scale=uniform((batch, 3), 1 - settings.scale, 1 + settings.scale, generator),
        shear=uniform((batch, 6), -shear, shear, generator),
    )
    coarse = randn((batch, 3, *[settings.knots] * 3), generator)
    coarse = coarse * settings.elastic * sides.view(1, 3, 1, 1, 1)
    elastic = functional.interpolate(coarse, size=shape, mode="trilinear", align_corners=ALIGN_CORNERS)
    return fuse(matrix, elastic, "compose") * bernoulli(batch, settings.rate, generator)
