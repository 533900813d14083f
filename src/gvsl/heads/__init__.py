"""Heads: the modules on top of the backbone during pre-training."""

from gvsl.heads.affine import KeypointAffineHead, PooledAffineHead
from gvsl.heads.deformable import DeformableHead
from gvsl.heads.projection import HeadNorm, ProjectionHead
from gvsl.heads.pyramid import PyramidHead
from gvsl.heads.restoration import RestorationHead
from gvsl.heads.z_matching import Matching, ZMatchingHead

__all__ = [
    "DeformableHead",
    "HeadNorm",
    "KeypointAffineHead",
    "Matching",
    "PooledAffineHead",
    "ProjectionHead",
    "PyramidHead",
    "RestorationHead",
    "ZMatchingHead",
]
