"""The Z-matching head: affine, then deformable matching, fused into one field (Section 3.2, Fig. 4 b)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from gvsl.geometry import Fusion, affine_dvf, fuse, warp
from gvsl.heads.affine import AffineHead
from gvsl.heads.deformable import DeformableHead
from gvsl.types import Features


class Matching(NamedTuple):
    """How a moving volume is brought onto a fixed one."""

    dvf: Tensor
    """The fused field: (B, 3, D, H, W) in voxels."""
    affine: Tensor
    """The affine part alone, as a field: (B, 3, D, H, W) in voxels."""
    local: Tensor
    """The deformable head's field: (B, 3, D, H, W) in voxels."""


class ZMatchingHead(nn.Module):
    """Match two volumes by their features, globally and locally.

    A's local features are warped by the affine map before the deformable head sees them beside B's; the affine map
    and the local field are then fused, so that the image is interpolated once (Eq. 12).
    """

    def __init__(
        self, width: int, *, affine: bool = True, affine_gradient: bool = True, fusion: Fusion = "compose"
    ) -> None:
        """Make the head for a backbone of `width` local and 16 * `width` global channels.

        Args:
            width: channels of the local features.
            affine: without it, the affine map is the identity (Table 1, "w/o Affine head").
            affine_gradient: without it, nothing trains the affine head, which stays as it started: nearly the identity.
            fusion: see `gvsl.geometry.fuse`.
        """
        super().__init__()
        self.affine = AffineHead(16 * width) if affine else None
        self.deformable = DeformableHead(width)
        self.affine_gradient = affine_gradient
        self.fusion = fusion

    def forward(self, moving: Features, fixed: Features) -> Matching:
        """Find the field that brings the moving volume onto the fixed one's grid."""
        shape = (fixed.local.shape[2], fixed.local.shape[3], fixed.local.shape[4])
        if self.affine is None:
            local = self.deformable(moving.local, fixed.local)
            return Matching(local, torch.zeros_like(local), local)
        matrix = self.affine(moving.global_, fixed.global_, shape)
        if not self.affine_gradient:
            matrix = matrix.detach()
        affine = affine_dvf(matrix, shape)
        aligned = warp(moving.local, affine, exact=False)
        local = self.deformable(aligned, fixed.local)
        return Matching(fuse(matrix, local, self.fusion), affine, local)
