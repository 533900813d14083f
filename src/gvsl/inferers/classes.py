"""Segment a whole volume window by window."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gvsl.inferers.sliding_window import likeliest
from gvsl.store.arrays import Box


def predict_classes(
    logits: Callable[[Box], Tensor],
    shape: Sequence[int],
    crop: Sequence[int],
    overlap: float,
    device: torch.device,
) -> Tensor:
    """The most likely class of each voxel: (1, 1, D, H, W), int64.

    A volume that fits the crop is one window. Where windows overlap, their logits are averaged with Gaussian
    weights.

    Args:
        logits: a box of the volume to its logits, (1, classes, D, H, W), float32, on `device`.
        shape: the volume's sides in voxels.
        crop: the window's largest sides in voxels.
        overlap: share of a window that the next one covers too.
        device: where the logits are, and the classes shall be.
    """
    return torch.from_numpy(likeliest(logits, shape, crop, overlap))[None, None].to(device).long()
