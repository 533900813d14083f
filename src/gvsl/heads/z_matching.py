"""The Z-matching head: affine, then deformable matching, fused into one field (Section 3.2, Fig. 4 b)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gvsl.geometry import Fusion, affine_dvf, fuse, spatial_shape, warp
from gvsl.heads.affine import KeypointAffineHead, PooledAffineHead
from gvsl.heads.deformable import DeformableHead
from gvsl.heads.pyramid import PyramidHead
from gvsl.settings.methods import AffineKind, DeformableKind
from gvsl.types import Features

AFFINE_HEADS: dict[AffineKind, Callable[[int], nn.Module]] = {
    "keypoints": KeypointAffineHead,
    "pooled": PooledAffineHead,
}
DEFORMABLE_HEADS: dict[DeformableKind, Callable[[int], nn.Module]] = {
    "pyramid": PyramidHead,
    "direct": DeformableHead,
}


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
        affine: AffineKind | None = "keypoints",
        deformable: DeformableKind = "pyramid",
        affine_gradient: bool = True,
        fusion: Fusion = "compose",
    ) -> None:
        """Create the affine and the deformable head.

        Args:
            global_channels: channels of the global features.
            local_channels: channels of the local features.
            affine: the affine head; without one the affine map is the identity (Table 1, "w/o Affine head").
            deformable: the deformable head.
            affine_gradient: if False, the affine head is not trained. The pooled head's map then stays close to the
                identity; with key points, it is the map of untrained heat maps, close to the identity at the start.
            fusion: see `gvsl.geometry.fuse`.
        """
        super().__init__()
        self.affine = AFFINE_HEADS[affine](global_channels) if affine else None
        self.deformable = DEFORMABLE_HEADS[deformable](local_channels)
        self.affine_gradient = affine_gradient
        self.fusion = fusion

    def forward(self, moving: Features, fixed: Features) -> Matching:
        """Predict the field that warps the moving volume onto the fixed one's grid."""
        shape = spatial_shape(fixed.local)
        if self.affine is None:
            local = self.deformable(moving.local, fixed.local)
            return Matching(local, torch.zeros_like(local), local)
        matrix = self._matrix(moving.global_, fixed.global_, shape)
        affine = affine_dvf(matrix, shape)
        aligned = warp(moving.local, affine, padding="border", exact=False)
        local = self.deformable(aligned, fixed.local)
        return Matching(fuse(matrix, local, self.fusion), affine, local)

    def affine_part(self, moving: Tensor, fixed: Tensor, shape: tuple[int, int, int]) -> Tensor:
        """Return the affine part of the field alone, (B, 3, D, H, W), from global features of volumes of a shape.

        There must be an affine head.
        """
        return affine_dvf(self._matrix(moving, fixed, shape), shape)

    def _matrix(self, moving: Tensor, fixed: Tensor, shape: tuple[int, int, int]) -> Tensor:
        assert self.affine is not None
        matrix: Tensor = self.affine(moving, fixed, shape)
        return matrix if self.affine_gradient else matrix.detach()
