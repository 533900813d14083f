"""What the pretexts minimise: a pure function and a thin module each."""

from gvsl.losses.local_ncc import LocalNCCLoss, box_sum, local_ncc_loss
from gvsl.losses.smoothness import SmoothnessLoss, smoothness_loss

__all__ = ["LocalNCCLoss", "SmoothnessLoss", "box_sum", "local_ncc_loss", "smoothness_loss"]
