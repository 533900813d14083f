"""What the pretexts minimise: pure functions, and a thin module for those with settings."""

from gvsl.losses.contrastive import negative_cosine, nt_xent
from gvsl.losses.local_ncc import LocalNCCLoss, box_sum, local_ncc_loss
from gvsl.losses.smoothness import SmoothnessLoss, smoothness_loss

__all__ = [
    "LocalNCCLoss",
    "SmoothnessLoss",
    "box_sum",
    "local_ncc_loss",
    "negative_cosine",
    "nt_xent",
    "smoothness_loss",
]
