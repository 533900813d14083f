"""Smoothness of a displacement vector field (Eq. 2)."""

import torch
from torch import Tensor


def smoothness_loss(dvf: Tensor) -> Tensor:
    r"""Return the squared gradient \|\nabla\psi(p)\|^2 of a field, averaged over voxels, components and axes (Eq. 2).

    Eq. 2 sums instead of averaging. The sum grows with the volume, and even its mean over the voxels is nine times this
    one: beside the NCC at weight 1 the field hardly moved on hippocampus MR (docs/methods/gvsl.md).
    Computed in float32 or higher.

    Args:
        dvf: (B, 3, D, H, W), in voxels, each side at least 2.

    Returns:
        A scalar; 0 for a constant field.

    >>> ramp = torch.zeros(1, 3, 2, 2, 2)
    >>> ramp[:, 0, 1] = 3  # one of nine differences is 3
    >>> smoothness_loss(ramp)
    tensor(1.)
    """
    field = dvf.to(torch.promote_types(dvf.dtype, torch.float32))
    differences = (field.diff(dim=axis) for axis in (2, 3, 4))
    return torch.stack([difference.square().mean() for difference in differences]).mean()
