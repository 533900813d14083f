"""The smoothness of a displacement vector field (Eq. 2)."""

import torch
from torch import Tensor, nn


def smoothness_loss(dvf: Tensor) -> Tensor:
    r"""The squared gradient of the field, \|\nabla\psi(p)\|^2, as a mean over voxels, components and axes (Eq. 2).

    Eq. 2 sums over all of them. The sum grows with the volume, and even its mean over the voxels is nine times this:
    beside the NCC at weight 1 it hardly let the field move on MR of the hippocampus (docs/methods/gvsl.md).
    Computed in float32 at least.

    Args:
        dvf: (B, 3, D, H, W) in voxels, each side at least 2.

    Returns:
        a scalar, 0 for a constant field.
    """
    field = dvf.to(torch.promote_types(dvf.dtype, torch.float32))
    differences = (field.diff(dim=axis) for axis in (2, 3, 4))
    return torch.stack([difference.square().mean() for difference in differences]).mean()


class SmoothnessLoss(nn.Module):
    """`smoothness_loss` as a module."""

    def forward(self, dvf: Tensor) -> Tensor:
        """See `smoothness_loss`."""
        return smoothness_loss(dvf)
