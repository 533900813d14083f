"""Boxes of a volume: the windows that cover it, and one at random."""

from collections.abc import Sequence

import numpy as np
from monai.data.utils import dense_patch_slices

from gvsl.store.arrays import Box


def window_size(shape: Sequence[int], crop: Sequence[int]) -> tuple[int, int, int]:
    """The crop, or the volume's own side where that is smaller."""
    depth, height, width = (min(side, limit) for side, limit in zip(shape, crop, strict=True))
    return depth, height, width


def windows(shape: Sequence[int], crop: Sequence[int], overlap: float) -> list[Box]:
    """The windows with which MONAI's sliding window covers a volume; one that fits the crop is one window.

    Args:
        shape: the volume's sides in voxels.
        crop: the window's largest sides in voxels.
        overlap: share of a window that the next one covers too, 0 or more and less than 1.
    """
    size = window_size(shape, crop)
    steps = [
        side if side == whole else max(1, int(side * (1 - overlap))) for side, whole in zip(size, shape, strict=True)
    ]
    return [plain_box(box) for box in dense_patch_slices(tuple(shape), size, steps)]


def random_box(shape: Sequence[int], crop: Sequence[int], generator: np.random.Generator) -> Box:
    """A box of the crop's size anywhere in the volume; the whole volume if that fits the crop."""
    starts = [
        int(generator.integers(whole - side + 1)) for side, whole in zip(window_size(shape, crop), shape, strict=True)
    ]
    depth, height, width = (
        slice(start, start + side) for start, side in zip(starts, window_size(shape, crop), strict=True)
    )
    return depth, height, width


def plain_box(box: Sequence[slice]) -> Box:
    """The same box with Python's own integers."""
    depth, height, width = (slice(int(side.start), int(side.stop)) for side in box)
    return depth, height, width
