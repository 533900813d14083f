"""What the pretexts minimise: a pure function and a thin module each."""

from gvsl.losses.contrastive import NegativeCosine, NTXent, negative_cosine, nt_xent
from gvsl.losses.gather import gather
from gvsl.losses.local_ncc import LocalNCCLoss, box_sum, local_ncc_loss
from gvsl.losses.smoothness import SmoothnessLoss, smoothness_loss

__all__ = [
    "LocalNCCLoss",
    "NTXent",
    "NegativeCosine",
    "SmoothnessLoss",
    "box_sum",
    "gather",
    "local_ncc_loss",
    "negative_cosine",
    "nt_xent",
    "smoothness_loss",
]
