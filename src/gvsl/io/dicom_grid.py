"""The geometry of DICOM slices: sorted onto one even grid, with an error that names the reason if there is none."""

from dataclasses import dataclass
from math import degrees
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRBigEndian

from gvsl.io.dicom_file import numbers_of, whole_number_of
from gvsl.io.header_checks import LPS_TO_RAS, MAX_OBLIQUE_COSINE, checked_affine
from gvsl.io.volume import UnusableFile

DIRECTION_TOLERANCE = 1e-3
"""Maximum difference between the direction cosines of two slices."""
POSITION_TOLERANCE = 0.1
"""Maximum deviation from the even grid as a fraction of the slice distance; positions are often rounded."""
GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")


@dataclass(frozen=True)
class Slice:
    """One slice of a volume, without its voxels."""

    path: Path
    rows: int
    columns: int
    spacing: tuple[float, float]
    """Between rows and between columns, in mm."""
    directions: NDArray[np.float64]
    """(2, 3): unit vectors from column to column and from row to row, in LPS."""
    corner: NDArray[np.float64]
    """Centre of the first voxel, in LPS."""
    frame: int = 0
    """Index of the frame in a file of several."""


def checked_slice(path: Path, header: Any, rows: int, columns: int, named: str, frame: int = 0) -> Slice:
    """Return a slice from the elements of GEOMETRY, if they are all there and plausible."""
    corner, axes, spacing = (numbers_of(header, name) for name in GEOMETRY)
    if (corner.size, axes.size, spacing.size) != (3, 6, 2):
        raise UnusableFile(f"lacks the position, orientation or pixel spacing of its slices ({named})")
    if spacing.min() <= 0:
        raise UnusableFile(f"its header has a pixel spacing of {spacing[0]:g} x {spacing[1]:g} mm ({named})")
    directions = axes.reshape(2, 3)
    if np.abs(directions @ directions.T - np.eye(2)).max() > MAX_OBLIQUE_COSINE:
        raise UnusableFile(f"its rows and columns are not at right angles ({named})")
    return Slice(path, rows, columns, (float(spacing[0]), float(spacing[1])), directions, corner, frame)


def sorted_slices(slices: list[Slice]) -> tuple[list[Slice], NDArray[np.float64]]:
    """Sort the slices by position, check that they form one even grid, and return its affine too."""
    first = slices[0]
    if max(np.abs(item.directions - first.directions).max() for item in slices) > DIRECTION_TOLERANCE:
        raise UnusableFile("its slices have different orientations")
    if max(np.abs(np.subtract(item.spacing, first.spacing)).max() for item in slices) > 1e-3 * min(first.spacing):
        raise UnusableFile("its slices have different pixel spacings")
    normal = np.cross(*first.directions)
    positions = np.array([item.corner @ normal for item in slices])
    order = np.argsort(positions, kind="stable")
    ordered, positions = [slices[index] for index in order], positions[order]
    gaps = np.diff(positions)
    usual = float(np.median(gaps))
    if gaps.min() <= 1e-3 * max(usual, 1e-3):
        shared = int((gaps <= 1e-3 * max(usual, 1e-3)).sum())
        raise UnusableFile(
            f"{shared} of its {len(slices)} slices have the position of another: phases, echoes or duplicates"
        )
    index = np.arange(len(slices))
    if np.abs(positions - np.polyval(np.polyfit(index, positions, 1), index)).max() > POSITION_TOLERANCE * usual:
        raise UnusableFile(_uneven(positions, gaps, usual))
    corners = np.array([item.corner for item in ordered])
    step, corner = np.polyfit(index, corners, 1)
    off = np.linalg.norm(corners - (corner + index[:, None] * step), axis=1).max()
    if off > max(POSITION_TOLERANCE * usual, 0.5 * min(first.spacing)):
        raise UnusableFile(f"its slices are not in line: one is {off:.1f} mm off")
    aside = float(np.linalg.norm(step - (step @ normal) * normal))
    if aside > MAX_OBLIQUE_COSINE * np.linalg.norm(step):
        tilt = degrees(np.arctan2(aside, abs(step @ normal)))
        raise UnusableFile(f"its slices are shifted against each other, by a gantry tilt of {tilt:.1f} degrees")
    return ordered, _affine(first, step, corner)


def _uneven(positions: NDArray[np.float64], gaps: NDArray[np.float64], usual: float) -> str:
    """Describe why the slices form no even grid."""
    times = np.rint(gaps / usual)
    if (np.abs(gaps - times * usual) <= POSITION_TOLERANCE * usual * times).all() and times.max() > 1:
        at, missing = int(np.argmax(times)), int((times - 1).sum())
        text = f"{missing} of its slices {'is' if missing == 1 else 'are'} missing"
        if missing > times[at] - 1:
            return f"{text}, in {int((times > 1).sum())} places"
        return f"{text}, between {positions[at]:.1f} and {positions[at + 1]:.1f} mm"
    return f"its slices are unevenly spaced, from {gaps.min():.2f} to {gaps.max():.2f} mm apart"


def _affine(first: Slice, step: NDArray[np.float64], corner: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the affine from a slice's geometry, the step between slices and the first corner, all in LPS."""
    axes = np.stack([first.directions[0] * first.spacing[1], first.directions[1] * first.spacing[0], step], axis=1)
    affine = np.eye(4)
    affine[:3, :3] = LPS_TO_RAS @ axes
    affine[:3, 3] = LPS_TO_RAS @ corner
    return checked_affine(affine)


def stored_type(dataset: FileDataset) -> tuple[np.dtype[Any], int]:
    """Return the type of the stored values, and the number of unused bits at its upper end."""
    allocated, stored = whole_number_of(dataset, "BitsAllocated"), whole_number_of(dataset, "BitsStored")
    high = whole_number_of(dataset, "HighBit", stored - 1)
    signed = whole_number_of(dataset, "PixelRepresentation", 0)
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated or high != stored - 1 or signed not in (0, 1):
        raise UnusableFile(f"its values have {stored} of {allocated} bits up to bit {high}, which can't be read")
    order = ">" if dataset.file_meta.TransferSyntaxUID == ExplicitVRBigEndian else "<"
    return np.dtype(f"{order}{'i' if signed else 'u'}{allocated // 8}"), allocated - stored


def without_spare_bits(values: NDArray[Any], spare: int) -> NDArray[Any]:
    """Return values in the machine's byte order with the unused upper bits cleared."""
    native = values.astype(values.dtype.newbyteorder("="))
    return (native << spare) >> spare  # keeps the sign
