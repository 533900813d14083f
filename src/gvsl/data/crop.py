"""Bringing volumes of all sizes to one: crop about the centre, pad with air."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, int, int]
Box = tuple[slice, slice, slice]


def fit_crop(shapes: Sequence[Shape], most_voxels: int, multiple: int = 16) -> Shape:
    """The crop that fits a set of volumes: their median sides, to the nearest multiple, within so many voxels.

    Args:
        shapes: (D, H, W) of each volume, at least one.
        most_voxels: the largest crop; the longest side is shortened until it is kept.
        multiple: what each side is a multiple of, 16 for the U-Net.
    """
    sides = [max(multiple, int(median(side) / multiple + 0.5) * multiple) for side in zip(*shapes, strict=True)]
    while np.prod(sides) > most_voxels and max(sides) > multiple:
        sides[sides.index(max(sides))] -= multiple
    return sides[0], sides[1], sides[2]


def centre_crop(read: Callable[[Box], NDArray[Any]], shape: Shape, crop: Shape) -> NDArray[Any]:
    """Read a volume's centre at the size of `crop`, padded with 0 where the volume is smaller.

    Args:
        read: gives the voxels of a box, so that what lies outside of the crop is never read.
        shape: (D, H, W) of the volume; the store has it cropped to its foreground, so its centre is that of the body.
        crop: (D, H, W) wanted.

    Returns:
        an array of `crop`'s shape and the volume's type.
    """
    inside, placed = [], []
    for side, wanted in zip(shape, crop, strict=True):
        first, size = max(0, (side - wanted) // 2), min(side, wanted)
        before = (wanted - size) // 2
        inside.append(slice(first, first + size))
        placed.append(slice(before, before + size))
    voxels = read((inside[0], inside[1], inside[2]))
    fitted = np.zeros(crop, dtype=voxels.dtype)
    fitted[tuple(placed)] = voxels
    return fitted
