"""Loss functions: pure functions of tensors, one module a family."""

from gvsl.losses.contrastive import negative_cosine, nt_xent, symmetric_negative_cosine
from gvsl.losses.local_ncc import box_sum, local_ncc_loss, local_similarity
from gvsl.losses.smoothness import smoothness_loss
from gvsl.losses.soft_targets import soft_cross_entropy, soft_dice_loss

__all__ = [
    "box_sum",
    "local_ncc_loss",
    "local_similarity",
    "negative_cosine",
    "nt_xent",
    "smoothness_loss",
    "soft_cross_entropy",
    "soft_dice_loss",
    "symmetric_negative_cosine",
]
