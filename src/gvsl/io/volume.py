"""A volume in memory: its voxels and where they lie in the patient."""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gvsl.errors import UserError

MAX_VOXELS = 2**30
"""The most voxels a file may claim or a resampled volume have: 4 GiB as float32, twice a whole-body CT."""

LONGEST_REASON = 300


class UnusableFile(UserError):  # noqa: N818 - named for what it says to a user
    """A file that can't be used. Its text is the reason alone; the caller knows the file's name.

    What it quotes of the file can be anything, so the reason is made one printable line of LONGEST_REASON at most.
    """

    def __init__(self, reason: str) -> None:
        line = "".join(sign if sign.isprintable() else "?" for sign in " ".join(reason.split()))
        super().__init__(line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 3] + "...")


@dataclass(frozen=True, eq=False)
class Volume:
    """A scalar volume and its geometry."""

    array: NDArray[Any]
    """The voxels, (D, H, W)."""
    affine: NDArray[np.float64]
    """4 x 4, from voxel indices to millimetres in RAS+ patient space."""

    @property
    def spacing(self) -> tuple[float, float, float]:
        """The distance between neighbouring voxels along each axis, in millimetres."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(lengths[0]), float(lengths[1]), float(lengths[2])


def same_grid(one: Volume, other: Volume, tolerance: float = 0.1) -> bool:
    """Whether two volumes have one shape and no corner of theirs lies more than `tolerance` voxels apart."""
    if one.array.shape != other.array.shape:
        return False
    ends = [(0, size - 1) for size in one.array.shape]
    corners = np.array([(*corner, 1) for corner in product(*ends)], dtype=np.float64).T
    apart = np.linalg.norm(((one.affine - other.affine) @ corners)[:3], axis=0).max()
    return bool(apart <= tolerance * min(one.spacing))
