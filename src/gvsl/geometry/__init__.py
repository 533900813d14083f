"""Voxel grids, affine maps and displacement vector fields (DVFs)."""

from gvsl.geometry.affine import (
    AffineValues,
    affine_dvf,
    affine_matrix,
    affine_of,
    affine_positions,
    decompose_affine,
)
from gvsl.geometry.fuse import Fusion, fuse
from gvsl.geometry.grid import ALIGN_CORNERS, constants, identity_grid, normalised_grid, spatial_shape
from gvsl.geometry.jacobian import jacobian_determinant, nonpositive_jacobian_fraction
from gvsl.geometry.resize import compose, resize_dvf
from gvsl.geometry.shrink import shrink
from gvsl.geometry.smooth import gaussian_smooth, smoother
from gvsl.geometry.warp import inside, warp

__all__ = [
    "ALIGN_CORNERS",
    "AffineValues",
    "Fusion",
    "affine_dvf",
    "affine_matrix",
    "affine_of",
    "affine_positions",
    "compose",
    "constants",
    "decompose_affine",
    "fuse",
    "gaussian_smooth",
    "identity_grid",
    "inside",
    "jacobian_determinant",
    "nonpositive_jacobian_fraction",
    "normalised_grid",
    "resize_dvf",
    "shrink",
    "smoother",
    "spatial_shape",
    "warp",
]
