"""How a displacement vector field changes volumes, and where it folds."""

import torch
from torch import Tensor


def jacobian_determinant(dvf: Tensor) -> Tensor:
    """The determinant of the Jacobian of p -> p + dvf(p), by forward differences.

    Args:
        dvf: (B, 3, D, H, W) in voxels, each side at least 2.

    Returns:
        (B, D - 1, H - 1, W - 1): 1 where nothing changes, below 1 where the sampled region is smaller, 0 or less
        where the field folds.
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
def folded_share(dvf: Tensor) -> Tensor:
    """The share of voxels at which a field folds, in [0, 1], as a scalar tensor.

    Args:
        dvf: (B, 3, D, H, W) in voxels.
    """
    return (jacobian_determinant(dvf) <= 0).float().mean()
