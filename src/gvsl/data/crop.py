"""Bringing volumes of all sizes to one: crop about the centre or another place, pad with air."""

from collections.abc import Callable, Sequence
from math import floor
from statistics import median
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Shape = tuple[int, int, int]
Place = tuple[float, float, float]
"""Along each axis from 0, where the volume begins, to 1, where it ends."""
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


def centre_crop(
    read: Callable[[Box], NDArray[Any]], shape: Shape, crop: Shape, centre: Place = (0.5, 0.5, 0.5)
) -> NDArray[Any]:
    """Read a volume about a place in it at the size of `crop`, padded with 0 where the volume is smaller.

    Args:
        read: gives the voxels of a box, so that what lies outside of the crop is never read.
        shape: (D, H, W) of the volume.
        crop: (D, H, W) wanted.
        centre: the place, from 0 to 1 along each axis; so near to a border that the crop would stick out, it is moved.

    Returns:
        an array of `crop`'s shape and the volume's type.
    """
    inside, placed = [], []
    for side, wanted, place in zip(shape, crop, centre, strict=True):
        size = min(side, wanted)
        first = min(max(0, floor(place * side - size / 2)), side - size)
        before = (wanted - size) // 2
        inside.append(slice(first, first + size))
        placed.append(slice(before, before + size))
    voxels = read((inside[0], inside[1], inside[2]))
    fitted = np.zeros(crop, dtype=voxels.dtype)
    fitted[tuple(placed)] = voxels
    return fitted


def place_within(place: Place, box: Box, shape: Shape) -> Place:
    """A place in a box of a volume as one in the volume itself."""
    first, second, third = (
        (part.start + share * (part.stop - part.start)) / size
        for share, part, size in zip(place, box, shape, strict=True)
    )
    return first, second, third


def aligned_places(shapes: tuple[Shape, Shape], crop: Shape, jitter: float, draw: Generator) -> tuple[Place, Place]:
    """The centres of two volumes' crops: the same relative place in both, but for the jitter.

    Along an axis the place is uniform over all where both crops lie within their volumes; where one volume is no
    larger than the crop, it is the centre of both.

    Args:
        shapes: (D, H, W) of both volumes, or of the parts of them in which something is.
        crop: (D, H, W) of both crops.
        jitter: how far the first crop may be off, either way, as a share of its sides.
        draw: gives six numbers.
    """
    numbers = draw.random((3, 2))
    first, second = [], []
    for one, other, wanted, (where, off) in zip(*shapes, crop, numbers, strict=True):
        reach = min(0.5, max(wanted / one, wanted / other) / 2)
        place = reach + where * (1 - 2 * reach)
        first.append(float(place + (2 * off - 1) * jitter * wanted / one))
        second.append(float(place))
    return (first[0], first[1], first[2]), (second[0], second[1], second[2])
