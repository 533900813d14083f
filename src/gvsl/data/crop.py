"""Crops of one size from volumes of any size, padded with air."""

from collections.abc import Callable, Sequence
from math import floor
from statistics import median
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from gvsl.store import StoredCase

Shape = tuple[int, int, int]
Centre = tuple[float, float, float]
"""Relative position in a volume, from 0 to 1 along each axis."""
Box = tuple[slice, slice, slice]
MIDDLE = (0.5, 0.5, 0.5)


def fit_crop(shapes: Sequence[Shape], max_voxels: int, multiple: int = 16) -> Shape:
    """Return a crop that fits a set of volumes: their median sides, rounded to a multiple, within a number of voxels.

    Args:
        shapes: (D, H, W) of each volume, at least one.
        max_voxels: maximum size of the crop; its longest side is shortened until it is met.
        multiple: divisor of each side, 16 for the U-Net.
    """
    sides = [max(multiple, int(median(side) / multiple + 0.5) * multiple) for side in zip(*shapes, strict=True)]
    while np.prod(sides) > max_voxels and max(sides) > multiple:
        sides[sides.index(max(sides))] -= multiple
    return sides[0], sides[1], sides[2]


def centre_crop(
    read: Callable[[Box], NDArray[Any]], shape: Shape, crop: Shape, centre: Centre = (0.5, 0.5, 0.5)
) -> NDArray[Any]:
    """Read a crop of a volume, padded with 0 where the volume is smaller.

    Args:
        read: returns the voxels of a box, so that only the crop is read.
        shape: (D, H, W) of the volume.
        crop: (D, H, W) of the crop.
        centre: centre of the crop, which is shifted where the crop would otherwise extend beyond the volume.

    Returns:
        An array of the volume's type with the shape `crop`, after the axes before those of the volume, if any.
    """
    inside, placed = crop_boxes(shape, crop, centre)
    voxels = read(inside)
    fitted = np.zeros((*voxels.shape[:-3], *crop), dtype=voxels.dtype)
    fitted[..., *placed] = voxels
    return fitted


def crop_boxes(shape: Shape, crop: Shape, centre: Centre) -> tuple[Box, Box]:
    """Return the box of a volume that a crop shows, and where that lies in the crop, padded evenly if it is larger."""
    inside, placed = [], []
    for side, wanted, position in zip(shape, crop, centre, strict=True):
        size = min(side, wanted)
        first = min(max(0, floor(position * side - size / 2)), side - size)
        before = (wanted - size) // 2
        inside.append(slice(first, first + size))
        placed.append(slice(before, before + size))
    return (inside[0], inside[1], inside[2]), (placed[0], placed[1], placed[2])


def centre_in_volume(centre: Centre, box: Box, shape: Shape) -> Centre:
    """Convert a relative position in a box of a volume to one in the volume."""
    first, second, third = (
        (part.start + position * (part.stop - part.start)) / size
        for position, part, size in zip(centre, box, shape, strict=True)
    )
    return first, second, third


def foreground_centre(case: StoredCase, centre: Centre = MIDDLE) -> Centre:
    """Convert a relative position in a case's foreground, by default its middle, to one in the stored volume.

    A case without a foreground in the store was cropped to it, so that the whole volume is foreground.
    """
    return centre if case.foreground is None else centre_in_volume(centre, case.foreground, case.shape)


def aligned_centres(
    shapes: tuple[Shape, Shape], crop: Shape, jitter: float, generator: Generator
) -> tuple[Centre, Centre]:
    """Sample the centres of two volumes' crops, equal except for the jitter.

    Along each axis the centre is uniform over the positions at which both crops lie within their volumes, or 0.5 if one
    of the volumes is no larger than the crop.

    Args:
        shapes: (D, H, W) of both volumes or of their foregrounds.
        crop: (D, H, W) of both crops.
        jitter: maximum offset of the first crop, in either direction, as a fraction of its sides.
        generator: source of six random numbers.
    """
    numbers = generator.random((3, 2))
    first, second = [], []
    for side, other_side, wanted, (position, offset) in zip(*shapes, crop, numbers, strict=True):
        margin = min(0.5, max(wanted / side, wanted / other_side) / 2)
        centre = margin + position * (1 - 2 * margin)
        first.append(float(centre + (2 * offset - 1) * jitter * wanted / side))
        second.append(float(centre))
    return (first[0], first[1], first[2]), (second[0], second[1], second[2])
