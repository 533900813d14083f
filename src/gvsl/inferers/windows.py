"""Boxes of a volume: the windows that cover it, and random ones."""

from collections.abc import Sequence

import numpy as np

from gvsl.io import Box


def window_size(shape: Sequence[int], crop: Sequence[int]) -> tuple[int, int, int]:
    """Return the crop, limited by the volume's own sides."""
    depth, height, width = (min(side, limit) for side, limit in zip(shape, crop, strict=True))
    return depth, height, width


def windows(shape: Sequence[int], crop: Sequence[int], overlap: float) -> list[Box]:
    """Return the windows with which MONAI's sliding window covers a volume; one that fits the crop is one window.

    Args:
        shape: the volume's sides in voxels.
        crop: the window's maximum sides in voxels.
        overlap: fraction of a window that the next one covers too, 0 or more and less than 1.
    """
    size = window_size(shape, crop)
    if size == tuple(shape):
        return [(slice(0, int(size[0])), slice(0, int(size[1])), slice(0, int(size[2])))]
    from monai.data.utils import dense_patch_slices  # takes seconds to import, and many volumes are one window

    steps = [
        side if side == whole else max(1, int(side * (1 - overlap))) for side, whole in zip(size, shape, strict=True)
    ]
    boxes = []
    for box in dense_patch_slices(tuple(shape), size, steps):
        depth, height, width = (slice(int(side.start), int(side.stop)) for side in box)
        boxes.append((depth, height, width))
    return boxes


def random_box(shape: Sequence[int], crop: Sequence[int], generator: np.random.Generator) -> Box:
    """Return a box of the crop's size anywhere in the volume; the whole volume if it fits the crop."""
    depth, height, width = (
        slice(start := int(generator.integers(whole - side + 1)), start + side)
        for side, whole in zip(window_size(shape, crop), shape, strict=True)
    )
    return depth, height, width
