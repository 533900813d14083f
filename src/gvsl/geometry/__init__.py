"""Where every voxel goes: grids, affine maps, displacement vector fields."""

from gvsl.geometry.affine import affine_dvf, affine_matrix, affine_positions
from gvsl.geometry.fuse import Fusion, fuse
from gvsl.geometry.grid import ALIGN_CORNERS, identity_grid, normalised_grid
from gvsl.geometry.jacobian import folded_share, jacobian_determinant
from gvsl.geometry.warp import inside, warp

__all__ = [
    "ALIGN_CORNERS",
    "Fusion",
    "affine_dvf",
    "affine_matrix",
    "affine_positions",
    "folded_share",
    "fuse",
    "identity_grid",
    "inside",
    "jacobian_determinant",
    "normalised_grid",
    "warp",
]
