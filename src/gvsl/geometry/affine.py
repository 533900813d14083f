"""Affine matrices (Eq. 11) and their displacement vector fields."""

import torch
from torch import Tensor

from gvsl.geometry.grid import identity_grid


def affine_matrix(rotation: Tensor, translation: Tensor, scale: Tensor, shear: Tensor) -> Tensor:
    """Return the product of rotation, scaling, shearing and translation, in the order of Eq. 11.

    The paper prints cos z as the last factor of the first row's third element. That is not a rotation; it is sin z.

    Args:
        rotation: (B, 3), angles about the three axes in radians; the matrix is Rz Ry Rx.
        translation: (B, 3), in voxels.
        scale: (B, 3), factors; 1 leaves an axis unchanged.
        shear: (B, 6), in the paper's order xy, xz, yx, yz, zx, zy.

    Returns:
        (B, 4, 4), acting on homogeneous column vectors of voxel coordinates relative to the volume's centre.

    >>> zero, one = torch.zeros(1, 3), torch.ones(1, 3)
    >>> affine_matrix(zero, zero + 2, 1.5 * one, torch.zeros(1, 6))[0, 0]
    tensor([1.5000, 0.0000, 0.0000, 3.0000])
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
    """Apply an affine map about a volume's centre to voxel positions.

    Args:
        matrix: (B, 4, 4), from `affine_matrix`.
        positions: (B or 1, 3, D, H, W), in voxels.
        shape: (D, H, W) of the volume whose centre is the map's origin.

    Returns:
        (B, 3, D, H, W), in voxels.

    >>> affine_positions(2 * torch.eye(4)[None], torch.zeros(1, 3, 1, 1, 1), (5, 5, 5)).flatten()
    tensor([-2., -2., -2.])
    """
    centre = positions.new_tensor([(side - 1) / 2 for side in shape]).view(1, 3, 1, 1, 1)
    about_centre = (positions - centre).flatten(2)
    mapped = torch.matmul(matrix[:, :3, :3], about_centre) + matrix[:, :3, 3:]
    return mapped.unflatten(2, positions.shape[2:]) + centre


def affine_dvf(matrix: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Return the displacement vector field of an affine map about the volume's centre.

    Args:
        matrix: (B, 4, 4), from `affine_matrix`.
        shape: (D, H, W).

    Returns:
        (B, 3, D, H, W), in voxels.

    >>> affine_dvf(torch.eye(4)[None], (4, 4, 4)).any()
    tensor(False)
    """
    grid = identity_grid(shape, dtype=matrix.dtype, device=matrix.device)
    return affine_positions(matrix, grid, shape) - grid
