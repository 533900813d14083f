"""DICOM series: one volume from slices on an even grid, with an error that names the reason if there is none."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import degrees, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRBigEndian

from gvsl.io.dicom_file import number_of, numbers_of, parsing, read_header, read_whole, values_of, whole_number_of
from gvsl.io.header_checks import (
    LPS_TO_RAS,
    MAX_OBLIQUE_COSINE,
    checked_affine,
    checked_shape,
    refuse_short,
    refuse_wrapped,
)
from gvsl.io.stream import DEFLATE_RATIO, wrap_read_errors
from gvsl.io.volume import UnusableFile, format_sizes

DIRECTION_TOLERANCE = 1e-3
"""Maximum difference between the direction cosines of two slices."""
POSITION_TOLERANCE = 0.1
"""Maximum deviation from the even grid as a fraction of the slice distance; positions are often rounded."""
GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
USED = (
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "Modality",
    "ImageType",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "ModalityLUTSequence",
    *GEOMETRY,
)
"""Elements that are read of every file before any voxel."""


@dataclass(frozen=True)
class Slice:
    """One file of a series, without its voxels."""

    path: Path
    rows: int
    columns: int
    spacing: tuple[float, float]
    """Between rows and between columns, in mm."""
    directions: NDArray[np.float64]
    """(2, 3): unit vectors from column to column and from row to row, in LPS."""
    corner: NDArray[np.float64]
    """Centre of the first voxel, in LPS."""


def load_dicom(files: Sequence[Path]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Load the rescaled voxels of one series, (D, H, W), and the RAS+ affine in millimetres.

    The axes are the image's columns, rows and slices. Slices are sorted by position; instance numbers are ignored.

    Raises:
        UnusableFile: the files are not exactly one series, have no voxels, or don't lie on one even grid.
    """
    with wrap_read_errors("DICOM"), parsing():
        slices, affine = _sorted(_slices(files))
        shape = checked_shape((slices[0].columns, slices[0].rows, len(slices)))
        refuse_short(shape, prod(shape), DEFLATE_RATIO * sum(item.path.stat().st_size for item in slices))
        array = np.empty(shape, np.float32, order="F")
        for index, item in enumerate(slices):
            array[:, :, index] = _values(item)
    return array, affine


def _slices(files: Sequence[Path]) -> list[Slice]:
    """Read every file's geometry, and check that the files are one series of images."""
    headers = [(path, read_header(path, USED)) for path in files]
    uids = sorted({str(header.get("SeriesInstanceUID", "")) for _, header in headers})
    if not headers:
        raise UnusableFile("holds no DICOM file")
    if len(uids) > 1:
        raise UnusableFile(f"holds {len(uids)} DICOM series; name the folder of one")
    if uids == [""]:
        raise UnusableFile(f"its {len(headers)} files have no SeriesInstanceUID")
    named = _series_name(headers[0][1])
    for _, header in headers:
        _refuse_kind(header, named)
    if len(headers) == 1:
        frames = whole_number_of(headers[0][1], "NumberOfFrames", 1)
        if frames > 1:
            raise UnusableFile(f"is one file of {frames} frames ({named}); convert it to single slices or NIfTI first")
        raise UnusableFile(f"is a single slice ({named}); a volume is needed")
    sizes = sorted({(whole_number_of(header, "Columns"), whole_number_of(header, "Rows")) for _, header in headers})
    if len(sizes) > 1:
        listed = " and ".join(format_sizes(size) for size in sizes[:2])
        raise UnusableFile(f"its slices have different sizes: {listed} ({named})")
    return [_slice(path, header, named) for path, header in headers]


def _refuse_kind(header: FileDataset, named: str) -> None:
    """Refuse what is no slice of a volume."""
    kinds = [str(kind).upper() for kind in values_of(header, "ImageType")]
    if "LOCALIZER" in kinds or "SCOUT" in kinds:
        raise UnusableFile(f"is a localiser, not a volume ({named})")
    if "MOSAIC" in kinds:
        raise UnusableFile(
            f"is a mosaic, with all slices of a volume as tiles of one picture ({named}); convert it to NIfTI by "
            "dcm2niix first"
        )
    if "Rows" not in header or "Columns" not in header:
        raise UnusableFile(f"holds no pixel data: it is {header.get('Modality', 'of no modality')} ({named})")
    if whole_number_of(header, "SamplesPerPixel", 1) != 1:
        raise UnusableFile(f"holds colour, not one number per voxel ({named})")
    photometric = str(header.get("PhotometricInterpretation", "MONOCHROME2")).upper()
    if photometric != "MONOCHROME2":
        raise UnusableFile(f"its values are {photometric}, not MONOCHROME2 ({named})")
    if "ModalityLUTSequence" in header:
        raise UnusableFile(f"its values need a lookup table (ModalityLUTSequence), not slope and intercept ({named})")


def _slice(path: Path, header: FileDataset, named: str) -> Slice:
    corner, axes, spacing = (numbers_of(header, name) for name in GEOMETRY)
    if (corner.size, axes.size, spacing.size) != (3, 6, 2):
        raise UnusableFile(f"lacks the position, orientation or pixel spacing of its slices ({named})")
    if spacing.min() <= 0:
        raise UnusableFile(f"its header has a pixel spacing of {spacing[0]:g} x {spacing[1]:g} mm ({named})")
    directions = axes.reshape(2, 3)
    if np.abs(directions @ directions.T - np.eye(2)).max() > MAX_OBLIQUE_COSINE:
        raise UnusableFile(f"its rows and columns are not at right angles ({named})")
    sizes = whole_number_of(header, "Rows"), whole_number_of(header, "Columns")
    return Slice(path, *sizes, (float(spacing[0]), float(spacing[1])), directions, corner)


def _sorted(slices: list[Slice]) -> tuple[list[Slice], NDArray[np.float64]]:
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


def _values(item: Slice) -> NDArray[np.float32]:
    """Return the rescaled values of one slice, (columns, rows)."""
    with parsing(item.path):
        dataset = read_whole(item.path)
        if "PixelData" not in dataset:
            raise UnusableFile(f"holds no pixel data in {item.path.name}")
        if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            return _decoded(item)
        values, dtype = _stored(dataset, item)
        slope, intercept = number_of(dataset, "RescaleSlope", 1.0), number_of(dataset, "RescaleIntercept", 0.0)
        rescaled = (values * np.float64(slope) + intercept).astype(np.float32)  # rounded once, as in other formats
        refuse_wrapped(rescaled, dtype, slope, intercept)
    return rescaled


def _stored(dataset: FileDataset, item: Slice) -> tuple[NDArray[Any], np.dtype[Any]]:
    """Return the stored values, with the unused bits cleared, and their type in the file."""
    allocated, stored = whole_number_of(dataset, "BitsAllocated"), whole_number_of(dataset, "BitsStored")
    high = whole_number_of(dataset, "HighBit", stored - 1)
    signed = whole_number_of(dataset, "PixelRepresentation", 0)
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated or high != stored - 1 or signed not in (0, 1):
        raise UnusableFile(f"its values have {stored} of {allocated} bits up to bit {high}, which can't be read")
    order = ">" if dataset.file_meta.TransferSyntaxUID == ExplicitVRBigEndian else "<"
    dtype = np.dtype(f"{order}{'i' if signed else 'u'}{allocated // 8}")
    wanted = item.rows * item.columns * dtype.itemsize
    held = bytes(dataset.PixelData)
    if not wanted <= len(held) <= wanted + 1:  # padded to an even count
        raise UnusableFile(f"{item.path.name} holds {len(held)} of {wanted} bytes of voxels")
    values = np.frombuffer(held, dtype, item.rows * item.columns).astype(dtype.newbyteorder("="))
    spare = allocated - stored
    values = (values << spare) >> spare  # keeps the sign
    return values.reshape(item.rows, item.columns).T, dtype


def _decoded(item: Slice) -> NDArray[np.float32]:
    """Return the rescaled values of a compressed slice, (columns, rows)."""
    import SimpleITK as sitk  # noqa: N813 - its usual name; large, and needed for these files only

    try:
        image = sitk.ReadImage(str(item.path), imageIO="GDCMImageIO")
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        why = lines[-1][:200] if lines else type(error).__name__
        raise UnusableFile(f"{item.path.name} can't be decompressed ({why})") from None
    values = sitk.GetArrayViewFromImage(image)
    if values.shape != (1, item.rows, item.columns):
        raise UnusableFile(f"{item.path.name} decompresses to {format_sizes(values.shape)} values")
    decoded: NDArray[np.float32] = values[0].T.astype(np.float32)
    return decoded


def _series_name(header: FileDataset) -> str:
    """Name a series as a scanner's console does, by number and description."""
    number, text = header.get("SeriesNumber"), " ".join(str(header.get("SeriesDescription") or "").split())[:200]
    return f"series {number if number is not None else '?'}" + (f", {text!r}" if text else "")
