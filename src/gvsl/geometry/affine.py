"""The affine matrix of Eq. 11 and the displacement it makes."""

import torch
from torch import Tensor

from gvsl.geometry.grid import identity_grid


def affine_matrix(rotation: Tensor, translation: Tensor, scale: Tensor, shear: Tensor) -> Tensor:
    """Rotation, scaling, shearing and translation multiplied in the order of Eq. 11, keeping the gradient.

    The paper prints cos z as the last factor of the first row's third element, which is no rotation; it is sin z.

    Args:
        rotation: (B, 3) angles about the three axes in radians; the matrix is Rz Ry Rx.
        translation: (B, 3) in voxels.
        scale: (B, 3), 1 leaves an axis as it is.
        shear: (B, 6) in the paper's order xy, xz, yx, yz, zx, zy.

    Returns:
        (B, 4, 4), which acts on homogeneous column vectors of voxel coordinates about the volume's centre.
    """
    sin, cos = rotation.sin(), rotation.cos()
    zero, one = torch.zeros_like(sin[:, 0]), torch.ones_like(sin[:, 0])
    (sin_x, sin_y, sin_z), (cos_x, cos_y, cos_z) = sin.unbind(1), cos.unbind(1)
    shear_xy, shear_xz, shear_yx, shear_yz, shear_zx, shear_zy = shear.unbind(1)

    def matrix(*rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)

    rotate = matrix(
        (cos_y * cos_z, sin_x * sin_y * cos_z - sin_z * cos_x, sin_y * cos_x * cos_z + sin_x * sin_z),
        (cos_y * sin_z, cos_x * cos_z + sin_x * sin_y * sin_z, -sin_x * cos_z + sin_z * sin_y * cos_x),
        (-sin_y, sin_x * cos_y, cos_x * cos_y),
    )
    shearing = matrix((one, shear_yx, shear_zx), (shear_xy, one, shear_zy), (shear_xz, shear_yz, one))
    linear = (rotate * scale[:, None, :]) @ shearing
    top = torch.cat([linear, linear @ translation[:, :, None]], dim=2)
    bottom = torch.stack([zero, zero, zero, one], dim=1)[:, None]
    return torch.cat([top, bottom], dim=1)


def affine_positions(matrix: Tensor, positions: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Move voxel positions by an affine map about the centre of a volume.

    Args:
        matrix: (B, 4, 4) from `affine_matrix`.
        positions: (B or 1, 3, D, H, W) in voxels.
        shape: (D, H, W) of the volume about whose centre the map acts.

    Returns:
        (B, 3, D, H, W) in voxels.
    """
    centre = positions.new_tensor([(side - 1) / 2 for side in shape]).view(1, 3, 1, 1, 1)
    about_centre = (positions - centre).flatten(2)
    moved = torch.matmul(matrix[:, :3, :3], about_centre) + matrix[:, :3, 3:]
    return moved.unflatten(2, positions.shape[2:]) + centre


def affine_dvf(matrix: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """The displacement vector field of an affine map about the volume's centre.

    Args:
        matrix: (B, 4, 4) from `affine_matrix`.
        shape: (D, H, W).

    Returns:
        (B, 3, D, H, W) in voxels.
    """
    grid = identity_grid(shape, dtype=matrix.dtype, device=matrix.device)
    return affine_positions(matrix, grid, shape) - grid
