"""The Z-matching head: affine, then deformable matching, fused into one field (Section 3.2, Fig. 4 b)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from gvsl.geometry import Fusion, affine_dvf, fuse, spatial_shape, warp
from gvsl.heads.affine import AffineHead
from gvsl.heads.deformable import DeformableHead
from gvsl.types import Features


class Matching(NamedTuple):
    """The fields that align a moving volume with a fixed one, each (B, 3, D, H, W) in voxels."""

    dvf: Tensor
    """The fused field."""
    affine: Tensor
    """The affine part as a field."""
    local: Tensor
    """The deformable head's field."""


class ZMatchingHead(nn.Module):
    """Match two volumes by their features, globally and locally.

    The moving volume's local features are warped by the affine map before they enter the deformable head. The affine
    map and the local field are then fused, so that the image is interpolated only once (Eq. 12).

    >>> features = Features(torch.rand(1, 128, 2, 2, 2), torch.rand(1, 8, 16, 16, 16))
    >>> ZMatchingHead(128, 8)(features, features).dvf.shape
    torch.Size([1, 3, 16, 16, 16])
    """

    def __init__(
        self,
        global_channels: int,
        local_channels: int,
        *,
        affine: bool = True,
        affine_gradient: bool = True,
        fusion: Fusion = "compose",
    ) -> None:
        """Create the affine and the deformable head.

        Args:
            global_channels: channels of the global features.
            local_channels: channels of the local features.
            affine: if False, the affine map is the identity (Table 1, "w/o Affine head").
            affine_gradient: if False, the affine head is not trained and stays close to the identity.
            fusion: see `gvsl.geometry.fuse`.
        """
        super().__init__()
        self.affine = AffineHead(global_channels) if affine else None
        self.deformable = DeformableHead(local_channels)
        self.affine_gradient = affine_gradient
        self.fusion = fusion

    def forward(self, moving: Features, fixed: Features) -> Matching:
        """Predict the field that warps the moving volume onto the fixed one's grid."""
        shape = spatial_shape(fixed.local)
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
