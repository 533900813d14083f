"""DICOM series: the files of a folder, one volume for each SeriesInstanceUID, told by name where they make none."""

import logging
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from math import degrees, prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.valuerep import VR

from gvsl.io.header_checks import LARGEST_OBLIQUE_COSINE, checked_affine, checked_shape, refuse_short, refuse_wrapped
from gvsl.io.stream import BROKEN, DEFLATE_RATIO, one_line, readable
from gvsl.io.volume import UnusableFile

MARK, MARK_AT = b"DICM", 128
META_GROUP, FIRST_GROUP = 2, 8
"""What the elements of a file begin with: how it is encoded, else what it shows."""
LAST_FIRST = 0x1FF
"""The last element of these groups that a file can begin with."""
LONGEST_FIRST = 2**10
"""The most bytes that the first element has."""
REPRESENTATIONS = {kind.value for kind in VR if len(kind.value) == 2}
BARE_HEADER_BYTES = 2**20
"""How much is read of a file without a mark to find its header."""
MAX_FILE_BYTES = 2**31
"""The largest file of a series that is taken; one slice has less than a thousandth of it."""
SAME_DIRECTION = 1e-3
"""The cosines of two slices' axes that are the same differ by less."""
SAME_PLACE = 0.1
"""The share of the slices' distance by which one may lie off the even grid: positions are often rounded."""
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
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
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
)
"""What is read of every file's header before any voxel is."""
DICOM_BROKEN = (*BROKEN, AttributeError, RuntimeError, AssertionError, BytesLengthException, struct.error)
"""What pydicom raises on files that are not what they say; a NotImplementedError is a RuntimeError."""


@dataclass(frozen=True)
class Slice:
    """One file of a series, without its voxels."""

    path: Path
    rows: int
    columns: int
    spacing: tuple[float, float]
    """Between rows and between columns, in mm."""
    along: NDArray[np.float64]
    """(2, 3): the direction in which the columns follow each other, and the rows, in LPS."""
    corner: NDArray[np.float64]
    """Where the first voxel's centre lies, in LPS."""


def is_dicom(path: Path) -> bool:
    """Whether a file has the mark of DICOM, or begins as DICOM does behind it.

    Raises:
        OSError: it can't be read.
    """
    with path.open("rb") as stream:
        return begins_as_dicom(stream.read(MARK_AT + len(MARK)))


def begins_as_dicom(head: bytes) -> bool:
    """Whether the first bytes of a file have the mark of DICOM, or are what follows it: some writers leave it out."""
    return _is_marked(head) or _is_bare(head)


def find_series(files: Sequence[Path]) -> dict[str, list[Path]]:
    """The DICOM files among `files` by SeriesInstanceUID.

    Those that say none stand under the name of their folder, those that can't be read under their own.
    """
    found: dict[str, list[Path]] = {}
    for path in files:
        try:
            if path.name.upper() == "DICOMDIR" or not path.is_file() or not is_dicom(path):
                continue
            with _parsing(path):
                uid = str(_header(path, ("SeriesInstanceUID",)).get("SeriesInstanceUID", "") or path.parent)
        except (OSError, MemoryError, UnusableFile):  # said by whoever reads it next, and better
            uid = str(path)
        found.setdefault(uid, []).append(path)
    return found


def load_dicom(files: Sequence[Path]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The rescaled voxels of one series, (D, H, W), and the affine in millimetres of RAS+.

    The axes are the image's columns, its rows and the slices, in the order of their places; numbers in the files
    decide nothing.

    Raises:
        UnusableFile: the files are several series or none, have no voxels, or don't lie on one even grid.
    """
    with readable("DICOM"), _parsing():
        slices, affine = _sorted(_slices(files))
        shape = checked_shape((slices[0].columns, slices[0].rows, len(slices)))
        refuse_short(shape, prod(shape), DEFLATE_RATIO * sum(item.path.stat().st_size for item in slices))
        array = np.empty(shape, np.float32, order="F")
        for index, item in enumerate(slices):
            array[:, :, index] = _values(item)
    return array, affine


def _slices(files: Sequence[Path]) -> list[Slice]:
    """Every file's geometry, once it is seen that they are one series of images."""
    headers = [(path, _header(path, USED)) for path in files]
    uids = sorted({str(header.get("SeriesInstanceUID", "")) for _, header in headers})
    if not headers:
        raise UnusableFile("holds no DICOM file")
    if len(uids) > 1:
        raise UnusableFile(f"holds {len(uids)} DICOM series; name the folder of one")
    if uids == [""]:
        raise UnusableFile(f"doesn't say which series its {len(headers)} files are of (SeriesInstanceUID)")
    named = _named(headers[0][1])
    for _, header in headers:
        _refuse_kind(header, named)
    if len(headers) == 1:
        frames = _whole(headers[0][1], "NumberOfFrames", 1)
        if frames > 1:
            raise UnusableFile(f"is one file of {frames} frames ({named}); convert it to single slices or NIfTI first")
        raise UnusableFile(f"is a single slice ({named}); a volume is needed")
    sizes = sorted({(_whole(header, "Columns"), _whole(header, "Rows")) for _, header in headers})
    if len(sizes) > 1:
        told = " and ".join(f"{columns} x {rows}" for columns, rows in sizes[:2])
        raise UnusableFile(f"its slices have different sizes: {told} ({named})")
    return [_slice(path, header, named) for path, header in headers]


def _refuse_kind(header: FileDataset, named: str) -> None:
    """Refuse what is no slice of a volume."""
    kinds = [str(kind).upper() for kind in _listed(header, "ImageType")]
    if "LOCALIZER" in kinds or "SCOUT" in kinds:
        raise UnusableFile(f"is a localiser, not a volume ({named})")
    if "Rows" not in header or "Columns" not in header:
        raise UnusableFile(f"holds no pixel data: it is {header.get('Modality', 'of no modality')} ({named})")
    if _whole(header, "SamplesPerPixel", 1) != 1:
        raise UnusableFile(f"holds colour, not one number a voxel ({named})")
    shown = str(header.get("PhotometricInterpretation", "MONOCHROME2")).upper()
    if shown != "MONOCHROME2":
        raise UnusableFile(f"its values are {shown}, not MONOCHROME2 ({named})")
    if "ModalityLUTSequence" in header:
        raise UnusableFile(f"its values go through a table (ModalityLUTSequence), not slope and intercept ({named})")


def _slice(path: Path, header: FileDataset, named: str) -> Slice:
    corner, axes, spacing = (
        _numbers(header, name) for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    )
    if (corner.size, axes.size, spacing.size) != (3, 6, 2):
        raise UnusableFile(f"doesn't say where its slices lie (position, orientation and pixel spacing) ({named})")
    if spacing.min() <= 0:
        raise UnusableFile(f"its header says a pixel spacing of {spacing[0]:g} x {spacing[1]:g} mm ({named})")
    along = axes.reshape(2, 3)
    if np.abs(along @ along.T - np.eye(2)).max() > LARGEST_OBLIQUE_COSINE:
        raise UnusableFile(f"its rows and columns are not at right angles ({named})")
    sizes = _whole(header, "Rows"), _whole(header, "Columns")
    return Slice(path, *sizes, (float(spacing[0]), float(spacing[1])), along, corner)


def _sorted(slices: list[Slice]) -> tuple[list[Slice], NDArray[np.float64]]:
    """The slices in the order of their places, if these make one even grid, and its affine."""
    first = slices[0]
    if max(np.abs(item.along - first.along).max() for item in slices) > SAME_DIRECTION:
        raise UnusableFile("its slices lie in different directions")
    if max(np.abs(np.subtract(item.spacing, first.spacing)).max() for item in slices) > 1e-3 * min(first.spacing):
        raise UnusableFile("its slices have different pixel spacings")
    normal = np.cross(*first.along)
    places = np.array([item.corner @ normal for item in slices])
    order = np.argsort(places, kind="stable")
    ordered, places = [slices[index] for index in order], places[order]
    gaps = np.diff(places)
    usual = float(np.median(gaps))
    if gaps.min() <= 1e-3 * max(usual, 1e-3):
        twice = int((gaps <= 1e-3 * max(usual, 1e-3)).sum())
        raise UnusableFile(f"{twice} of its {len(slices)} slices lie where another does: phases or echoes, or doubles")
    index = np.arange(len(slices))
    if np.abs(places - np.polyval(np.polyfit(index, places, 1), index)).max() > SAME_PLACE * usual:
        raise UnusableFile(_uneven(places, gaps, usual))
    corners = np.array([item.corner for item in ordered])
    step, corner = np.polyfit(index, corners, 1)
    off = np.linalg.norm(corners - (corner + index[:, None] * step), axis=1).max()
    if off > max(SAME_PLACE * usual, 0.5 * min(first.spacing)):
        raise UnusableFile(f"its slices don't lie behind each other: one is {off:.1f} mm off")
    aside = float(np.linalg.norm(step - (step @ normal) * normal))
    if aside > LARGEST_OBLIQUE_COSINE * np.linalg.norm(step):
        tilt = degrees(np.arctan2(aside, abs(step @ normal)))
        raise UnusableFile(f"its slices are shifted against each other, by a gantry tilt of {tilt:.1f} degrees")
    return ordered, _affine(first, step, corner)


def _uneven(places: NDArray[np.float64], gaps: NDArray[np.float64], usual: float) -> str:
    """Why the slices make no even grid."""
    times = np.rint(gaps / usual)
    if (np.abs(gaps - times * usual) <= SAME_PLACE * usual * times).all() and times.max() > 1:
        at, missing = int(np.argmax(times)), int((times - 1).sum())
        said = f"{missing} of its slices {'is' if missing == 1 else 'are'} missing"
        if missing > times[at] - 1:
            return f"{said}, in {int((times > 1).sum())} places"
        return f"{said}, between {places[at]:.1f} and {places[at + 1]:.1f} mm"
    return f"its slices are unevenly spaced, from {gaps.min():.2f} to {gaps.max():.2f} mm apart"


def _affine(first: Slice, step: NDArray[np.float64], corner: NDArray[np.float64]) -> NDArray[np.float64]:
    """From what the slices have in common, the step between them and the first one's corner, in LPS."""
    axes = np.stack([first.along[0] * first.spacing[1], first.along[1] * first.spacing[0], step], axis=1)
    affine = np.eye(4)
    affine[:3, :3] = LPS_TO_RAS @ axes
    affine[:3, 3] = LPS_TO_RAS @ corner
    return checked_affine(affine)


def _values(item: Slice) -> NDArray[np.float32]:
    """The rescaled values of one slice, (columns, rows)."""
    content = _content(item.path)
    with _parsing(item.path):
        content = _marked(content)
        _refuse_deflated(BytesIO(content), item.path)
        dataset = pydicom.dcmread(BytesIO(content))
        if "PixelData" not in dataset:
            raise UnusableFile(f"holds no pixel data in {item.path.name}")
        if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            return _decoded(item)
        values, dtype = _stored(dataset, item)
        slope, intercept = _number(dataset, "RescaleSlope", 1.0), _number(dataset, "RescaleIntercept", 0.0)
        rescaled = (values * np.float64(slope) + intercept).astype(np.float32)  # rounded once, as other formats are
        refuse_wrapped(rescaled, dtype, slope, intercept)
    return rescaled


def _stored(dataset: FileDataset, item: Slice) -> tuple[NDArray[Any], np.dtype[Any]]:
    """The values as they are stored, without what may lie in the bits that they don't use."""
    allocated, stored = _whole(dataset, "BitsAllocated"), _whole(dataset, "BitsStored")
    high, signed = _whole(dataset, "HighBit", stored - 1), _whole(dataset, "PixelRepresentation", 0)
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated or high != stored - 1 or signed not in (0, 1):
        raise UnusableFile(f"its values have {stored} of {allocated} bits up to bit {high}, which can't be read")
    order = ">" if dataset.file_meta.TransferSyntaxUID == ExplicitVRBigEndian else "<"
    dtype = np.dtype(f"{order}{'i' if signed else 'u'}{allocated // 8}")
    wanted = prod((item.rows, item.columns)) * dtype.itemsize
    held = bytes(dataset.PixelData)
    if not wanted <= len(held) <= wanted + 1:  # padded to an even count
        raise UnusableFile(f"{item.path.name} holds {len(held)} of {wanted} bytes of voxels")
    values = np.frombuffer(held, dtype, item.rows * item.columns).astype(dtype.newbyteorder("="))
    spare = allocated - stored
    values = (values << spare) >> spare  # keeps the sign
    return values.reshape(item.rows, item.columns).T, dtype


def _decoded(item: Slice) -> NDArray[np.float32]:
    """The rescaled values of a compressed slice."""
    import SimpleITK as sitk  # noqa: N813 - its usual name; large, and needed for these files only

    try:
        image = sitk.ReadImage(str(item.path), imageIO="GDCMImageIO")
    except RuntimeError as error:
        raise UnusableFile(f"{item.path.name} can't be decompressed ({_last_line(error)})") from None
    values = sitk.GetArrayViewFromImage(image)
    if values.shape != (1, item.rows, item.columns):
        raise UnusableFile(f"{item.path.name} decompresses to {' x '.join(map(str, values.shape))} values")
    decoded: NDArray[np.float32] = values[0].T.astype(np.float32)
    return decoded


def _header(path: Path, names: Sequence[str]) -> FileDataset:
    """Some elements of a file."""
    with _parsing(path), path.open("rb") as file:
        head = file.read(MARK_AT + len(MARK))
        file.seek(0)
        stream = BytesIO(_marked(file.read(BARE_HEADER_BYTES))) if _is_bare(head) else file
        _refuse_deflated(stream, path)
        stream.seek(0)
        return pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=list(names))


def _content(path: Path) -> bytes:
    """A whole file; parsed from memory, a length that the file states can't be more than what is there."""
    if path.stat().st_size > MAX_FILE_BYTES:
        raise UnusableFile(f"{path.name} has more than {MAX_FILE_BYTES:,} bytes")
    return path.read_bytes()


def _behind_meta(tag: BaseTag, representation: str | None, length: int) -> bool:
    return tag.group != META_GROUP


def _is_marked(head: bytes) -> bool:
    return head[MARK_AT : MARK_AT + len(MARK)] == MARK


def _is_bare(head: bytes) -> bool:
    """Whether a file begins with an element of group 2 or 8, little-endian, where the mark of DICOM should be."""
    if len(head) < 8 or _is_marked(head):
        return False
    group, element, length = struct.unpack("<HHI", head[:8])
    explicit = head[4:6].decode("latin-1") in REPRESENTATIONS
    return group in (META_GROUP, FIRST_GROUP) and element <= LAST_FIRST and (explicit or length <= LONGEST_FIRST)


def _marked(content: bytes) -> bytes:
    """The content of a file with the mark of DICOM, and with the default encoding where no mark says one."""
    if not _is_bare(content[: MARK_AT + len(MARK)]):
        return content
    meta = b""
    if int.from_bytes(content[:2], "little") != META_GROUP:
        explicit = content[4:6].decode("latin-1") in REPRESENTATIONS
        uid = (ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian).encode()
        uid += bytes(len(uid) % 2)
        meta = struct.pack("<HH2sH", META_GROUP, 0x10, b"UI", len(uid)) + uid
    return bytes(MARK_AT) + MARK + meta + content


def _refuse_deflated(stream: BinaryIO, path: Path) -> None:
    """Such a file would be unfolded whole, whatever its size, before anything in it could be checked."""
    if not _is_marked(stream.read(MARK_AT + len(MARK))):
        raise InvalidDicomError
    meta = read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=_behind_meta)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        raise UnusableFile(f"{path.name} is deflated as a whole; save it uncompressed")
    if "TransferSyntaxUID" not in meta:
        raise UnusableFile(f"{path.name} doesn't say how it is encoded (TransferSyntaxUID)")


@contextmanager
def _parsing(path: Path | None = None) -> Iterator[None]:
    """Keep pydicom's remarks off the screen, and turn what it raises on a broken file into one line that names it."""
    named = "" if path is None else f"{path.name} "
    log = logging.getLogger("pydicom")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (UnusableFile, FileNotFoundError):
        raise
    except InvalidDicomError:
        raise UnusableFile(f"{named}is not a DICOM file") from None
    except DICOM_BROKEN as error:
        raise UnusableFile(f"{named}can't be read as DICOM ({one_line(error)})") from None
    finally:
        log.setLevel(level)


def _named(header: FileDataset) -> str:
    """A series in the words that a scanner's console shows."""
    number, text = header.get("SeriesNumber"), one_line(ValueError(str(header.get("SeriesDescription") or "")))
    return f"series {number if number is not None else '?'}" + (f", {text!r}" if text != "ValueError" else "")


def _listed(header: FileDataset, name: str) -> list[Any]:
    value = header.get(name)
    if value is None or isinstance(value, str):
        return [] if not value else [value]
    return list(value) if hasattr(value, "__iter__") else [value]


def _numbers(header: FileDataset, name: str) -> NDArray[np.float64]:
    """The finite numbers of an element; none where it is missing or holds others."""
    found = np.array([float(value) for value in _listed(header, name)])
    return found if np.isfinite(found).all() else np.array([])


def _number(header: FileDataset, name: str, default: float) -> float:
    if header.get(name) in (None, ""):
        return default
    found = _numbers(header, name)
    if found.size != 1:
        raise UnusableFile(f"its header says {name} {header.get(name)}")
    return float(found[0])


def _whole(header: FileDataset, name: str, default: int | None = None) -> int:
    value = header.get(name)
    if value in (None, ""):
        if default is None:
            raise UnusableFile(f"its header says no {name}")
        return default
    return int(value)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
