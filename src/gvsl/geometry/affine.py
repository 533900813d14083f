"""Affine matrices (Eq. 11), their 15 values, and their displacement vector fields."""

from typing import NamedTuple

import torch
from torch import Tensor

from gvsl.geometry.grid import constants, identity_grid

LEAST_SCALE = 1e-12
"""The scale below which an axis counts as collapsed, and a matrix as without a decomposition."""


class AffineValues(NamedTuple):
    """The 15 values of Eq. 11, as `affine_matrix` takes them."""

    rotation: Tensor
    """(B, 3), angles about the three axes in radians."""
    translation: Tensor
    """(B, 3), in voxels."""
    scale: Tensor
    """(B, 3), factors."""
    shear: Tensor
    """(B, 6), in the paper's order xy, xz, yx, yz, zx, zy."""


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


def decompose_affine(matrix: Tensor) -> AffineValues:
    """Return the 15 values of an affine map: `affine_matrix` gives the same map back.

    Twelve numbers don't determine 15: rotation and shearing share three. They are chosen so that scaling times shearing
    is symmetric, the polar decomposition, whose rotation is the one nearest to the map and favours no axis.

    Source: K. Shoemake and T. Duff. Matrix animation and polar decomposition. Graphics Interface 1992.

    Args:
        matrix: (B, 4, 4), acting on homogeneous column vectors.

    Returns:
        Angles about the first and third axis are within a half turn, those about the second within a quarter. Where
        that is a quarter, the angle about the first axis is 0.

    Raises:
        ValueError: a map collapses an axis.

    >>> zero, one = torch.zeros(1, 3), torch.ones(1, 3)
    >>> angles = torch.tensor([[0.3, -0.2, 0.1]])
    >>> decompose_affine(affine_matrix(angles, zero, one, torch.zeros(1, 6))).rotation
    tensor([[ 0.3000, -0.2000,  0.1000]])
    """
    linear = matrix[:, :3, :3]
    left, stretch, right = torch.linalg.svd(linear)
    sign = torch.det(left @ right).sign()[:, None]
    stretch = torch.cat([stretch[:, :2], stretch[:, 2:] * sign], dim=1)  # a mirrored map has no other rotation
    rotate = left @ torch.cat([right[:, :2], right[:, 2:] * sign[:, None]], dim=1)
    symmetric = (right.transpose(1, 2) * stretch[:, None, :]) @ right
    scale = symmetric.diagonal(dim1=1, dim2=2)
    if min(stretch.abs().min(), scale.abs().min()) < LEAST_SCALE:
        raise ValueError("an affine map that collapses an axis has no rotation, scale and shear")
    shearing = symmetric / scale[:, :, None]
    shear = torch.stack([shearing[:, row, column] for row, column in ((1, 0), (2, 0), (0, 1), (2, 1), (0, 2), (1, 2))])
    translation = torch.linalg.solve(linear, matrix[:, :3, 3])
    return AffineValues(_angles(rotate), translation, scale, shear.T)


def _angles(rotate: Tensor) -> Tensor:
    """Return the angles (B, 3) of which a rotation matrix (B, 3, 3) is Rz Ry Rx."""
    cos_y = rotate[:, :2, 0].norm(dim=1)
    locked = cos_y < 10 * torch.finfo(rotate.dtype).eps  # x and z turn about one axis then
    x = torch.where(locked, 0, torch.atan2(rotate[:, 2, 1], rotate[:, 2, 2]))
    z = torch.where(
        locked, torch.atan2(-rotate[:, 0, 1], rotate[:, 1, 1]), torch.atan2(rotate[:, 1, 0], rotate[:, 0, 0])
    )
    return torch.stack([x, torch.atan2(-rotate[:, 2, 0], cos_y), z], dim=1)


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
    middle = [(side - 1) / 2 for side in shape]
    centre = constants(middle, positions.dtype, positions.device).view(1, 3, 1, 1, 1)
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


def affine_of(dvf: Tensor) -> Tensor:
    """Return the matrix of an affine map about the volume's centre, given its displacement vector field.

    Args:
        dvf: (B, 3, D, H, W), in voxels, from `affine_dvf`; of any other field only the corners are seen. Along an axis
            of one voxel the map is taken to be the identity.

    Returns:
        (B, 4, 4).

    >>> affine_of(affine_dvf(2 * torch.eye(4)[None], (3, 4, 5)))[0].diagonal()
    tensor([2., 2., 2., 1.])
    """
    origin, matrix = dvf[:, :, 0, 0, 0], torch.eye(4, dtype=dvf.dtype, device=dvf.device).repeat(len(dvf), 1, 1)
    shift = origin
    for axis, side in enumerate(dvf.shape[2:]):
        if side > 1:
            difference = dvf.movedim(2 + axis, 2)[:, :, -1, 0, 0] - origin
            matrix[:, :3, axis] += difference / (side - 1)
            shift = shift + difference / 2
    matrix[:, :3, 3] = shift
    return matrix
