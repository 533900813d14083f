"""Segment a whole volume window by window, by MONAI's sliding window."""

from collections.abc import Callable, Sequence

import torch
from monai.inferers import sliding_window_inference
from torch import Tensor

from gvsl.store.arrays import Box
from gvsl.transfer import window_size


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
        device: where the logits are.
    """

    def window_logits(_: Tensor, places: list[list[slice]]) -> Tensor:
        depth, height, width = places[0][2:]
        return logits((depth, height, width))

    grid = torch.zeros(1, device=device).expand(1, 1, *shape)  # a window needs its place alone, no voxels
    whole = sliding_window_inference(
        grid,
        roi_size=window_size(shape, crop),
        sw_batch_size=1,
        predictor=window_logits,
        overlap=overlap,
        mode="gaussian",
        with_coord=True,
    )
    return whole.argmax(dim=1, keepdim=True)
