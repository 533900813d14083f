"""The smoothness of a displacement vector field (Eq. 2)."""

import torch
from torch import Tensor, nn


def smoothness_loss(dvf: Tensor) -> Tensor:
    r"""The squared norm of the field's gradient, \|\nabla\psi(p)\|^2, as its mean over the voxels (Eq. 2).

    The nine squared forward differences are summed at each voxel; Eq. 2 sums over the voxels where this takes the
    mean, so that the weight beside the NCC does not depend on the volume's size. Computed in float32 at least.

    Args:
        dvf: (B, 3, D, H, W) in voxels, each side at least 2.

    Returns:
        a scalar, 0 for a constant field.
    """
    field = dvf.to(torch.promote_types(dvf.dtype, torch.float32))
    differences = (field.diff(dim=axis) for axis in (2, 3, 4))
    return torch.stack([3 * difference.square().mean() for difference in differences]).sum()


class SmoothnessLoss(nn.Module):
    """`smoothness_loss` as a module."""

    def forward(self, dvf: Tensor) -> Tensor:
        """See `smoothness_loss`."""
        return smoothness_loss(dvf)
