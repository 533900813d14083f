"""The Jacobian determinant of a displacement vector field, which shows where the field folds."""

import torch
from torch import Tensor


def jacobian_determinant(dvf: Tensor) -> Tensor:
    """Return the Jacobian determinant of p -> p + dvf(p), by forward differences.

    Args:
        dvf: (B, 3, D, H, W), in voxels, each side at least 2.

    Returns:
        (B, D - 1, H - 1, W - 1): 1 where volume is preserved, below 1 where the sampled region is smaller, 0 or less
        where the field folds.

    >>> jacobian_determinant(torch.zeros(1, 3, 2, 2, 2)).flatten()
    tensor([1.])
    """
    corner = dvf[:, :, :-1, :-1, :-1]
    a, b, c = (
        dvf[:, :, 1:, :-1, :-1] - corner,
        dvf[:, :, :-1, 1:, :-1] - corner,
        dvf[:, :, :-1, :-1, 1:] - corner,
    )
    ax, ay, az = a[:, 0] + 1, a[:, 1], a[:, 2]
    bx, by, bz = b[:, 0], b[:, 1] + 1, b[:, 2]
    cx, cy, cz = c[:, 0], c[:, 1], c[:, 2] + 1
    return ax * (by * cz - bz * cy) - ay * (bx * cz - bz * cx) + az * (bx * cy - by * cx)


@torch.no_grad()
def nonpositive_jacobian_fraction(dvf: Tensor) -> Tensor:
    """Return the fraction of voxels with a non-positive Jacobian determinant, where the field folds.

    Args:
        dvf: (B, 3, D, H, W), in voxels.

    Returns:
        A scalar in [0, 1].

    >>> nonpositive_jacobian_fraction(torch.zeros(1, 3, 4, 4, 4))
    tensor(0.)
    """
    return (jacobian_determinant(dvf) <= 0).float().mean()
