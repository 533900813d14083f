"""A volume in memory: voxels, and their position in the patient."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gvsl.errors import UserError

MAX_VOXELS = 2**30
"""Limit for files and resampled volumes: 4 GiB as float32, twice a whole-body CT."""
MAX_REASON = 300

Box = tuple[slice, slice, slice]


class UnusableFile(UserError):  # noqa: N818 - named for what it tells a user
    """A file that can't be used. The message holds the reason only; the caller adds the file's name.

    Text quoted from a file is untrusted, so the reason is reduced to one printable line of at most MAX_REASON.
    """

    def __init__(self, reason: str) -> None:
        line = "".join(sign if sign.isprintable() else "?" for sign in " ".join(reason.split()))
        super().__init__(line if len(line) <= MAX_REASON else line[: MAX_REASON - 3] + "...")


@dataclass(frozen=True, eq=False)
class Volume:
    """A scalar volume and its geometry.

    >>> Volume(np.zeros((4, 5, 6)), np.diag([1, 1, 2.5, 1])).spacing
    (1.0, 1.0, 2.5)
    """

    array: NDArray[Any]
    """Voxels, (D, H, W)."""
    affine: NDArray[np.float64]
    """4 x 4, from voxel indices to millimetres in RAS+ patient space."""
    notes: tuple[str, ...] = ()
    """What reading the file changed or left out, for the user."""

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along each axis, in millimetres."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(lengths[0]), float(lengths[1]), float(lengths[2])


def same_grid(one: Volume, other: Volume, tolerance: float = 0.1) -> bool:
    """Return True if two volumes have equal shapes and corners at most `tolerance` voxels apart."""
    if one.array.shape != other.array.shape:
        return False
    ends = [(0, size - 1) for size in one.array.shape]
    corners = np.array([(*corner, 1) for corner in product(*ends)], dtype=np.float64).T
    apart = np.linalg.norm(((one.affine - other.affine) @ corners)[:3], axis=0).max()
    return bool(apart <= tolerance * min(one.spacing))


def other_grid(own: Volume, expected: Volume) -> str:
    """Return how a grid differs from the expected one, for messages; empty if it doesn't."""
    if same_grid(expected, own):
        return ""
    found, wanted = (format_sizes(volume.array.shape) for volume in (own, expected))
    return f"{found} instead of {wanted}" if found != wanted else "same shape, different position"


def refuse_other_grid(label: Volume, image: Volume) -> None:
    """Refuse a label map that is not on the grid of its image; UnusableFile if it isn't."""
    why = other_grid(label, image)
    if why:
        raise UnusableFile(f"its grid is not that of its image: {why}")


def to_canonical(volume: Volume) -> Volume:
    """Reorder and flip the axes to RAS+ without interpolation.

    The array may be a view of the input. The axes of an oblique volume become the nearest to RAS+; it stays oblique,
    and its affine reflects that.
    """
    import nibabel  # slow to import, and not needed to describe a store

    turns = nibabel.io_orientation(volume.affine)
    affine = volume.affine @ nibabel.orientations.inv_ornt_aff(turns, volume.array.shape)
    return Volume(nibabel.apply_orientation(volume.array, turns), affine)


def bounding_box(mask: NDArray[np.bool_]) -> Box | None:
    """Return the smallest box around the true voxels of a mask, (D, H, W); None if there are none."""
    found = [np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis))) for axis in range(3)]
    if not found[0].size:
        return None
    first, second, third = (slice(int(ends[0]), int(ends[-1]) + 1) for ends in found)
    return first, second, third


def format_sizes(sizes: Iterable[float], spec: str = "") -> str:
    """Format a shape or spacing for messages.

    >>> format_sizes([512, 512, 80])
    '512 x 512 x 80'
    """
    return " x ".join(format(size, spec) for size in sizes)
