"""MetaImage files: .mha, and .mhd with the voxels in a file of their own. Files are untrusted."""

import re
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gvsl.io.header_checks import LPS_TO_RAS, checked_affine, checked_shape
from gvsl.io.text_header import (
    TextHeader,
    files_with_header,
    header_lines,
    load_with_header,
    numbers,
    peek_with_header,
    whole_numbers,
)
from gvsl.io.volume import UnusableFile

FIRST_LINE = re.compile(rb"\s*(ObjectType|NDims|Comment|ObjectSubType)\s*=")
"""The format has no magic number; its files begin with one of these."""
LOCAL = ("LOCAL", "Local", "local")
"""What ElementDataFile says where the voxels follow the header."""
SEVERAL_FILES = re.compile(r"LIST\b|.*%\d*d")
TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
"""MET_LONG is missing: its size, 4 or 8 bytes, depends on the machine that wrote it."""


def load_metaimage(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Load the voxels in their stored type, (D, H, W), and the RAS+ affine in millimetres.

    Space is LPS, as in ITK, whatever AnatomicalOrientation is. The default TransformMatrix is the identity.

    Raises:
        UnusableFile: the file can't be used.
    """
    return load_with_header(path, "MetaImage", _parse, SEVERAL_FILES)


def peek_metaimage(path: Path, count: int) -> tuple[tuple[int, int, int], NDArray[np.float64], NDArray[Any]]:
    """Return shape, RAS+ affine and about `count` voxels of the middle; UnusableFile if the file can't be used."""
    return peek_with_header(path, "MetaImage", _parse, SEVERAL_FILES, count)


def metaimage_files(path: Path) -> list[Path]:
    """Return the file and that of its voxels, if it is another; UnusableFile if there is none."""
    return files_with_header(path, "MetaImage", _parse)


def _parse(stream: IO[bytes]) -> TextHeader:
    fields = _fields(stream)
    sizes = whole_numbers(fields.get("DimSize", ""))
    if whole_numbers(fields.get("NDims", "")) != [len(sizes)]:
        raise UnusableFile(f"its header has NDims {fields.get('NDims')} and DimSize {fields.get('DimSize')}")
    shape = checked_shape(sizes)
    affine = _affine(fields, len(sizes))
    dtype = _dtype(fields)
    compressed = _boolean(fields, "CompressedData")
    data_file = None if fields["ElementDataFile"] in LOCAL else fields["ElementDataFile"]
    skips = whole_numbers(fields.get("HeaderSize", "0"))
    detached = len(skips) == 1 and skips[0] > 0 and data_file is not None
    if not (skips == [0] or (skips == [-1] and not compressed) or detached):
        raise UnusableFile(f"its header has HeaderSize {fields['HeaderSize']}, which is invalid")
    return TextHeader(shape, affine, dtype, "zlib" if compressed else "raw", skips[0], data_file)


def _fields(stream: IO[bytes]) -> dict[str, str]:
    """Read the header's fields by name, up to ElementDataFile, which is the last."""
    found: dict[str, str] = {}
    for line in header_lines(stream):
        if not line.strip():
            continue
        name, equals, value = line.partition("=")
        name = name.strip()
        if not equals:
            raise UnusableFile(f"its header has a line {line[:80]!r}, which is no field")
        if name in found and name != "Comment":
            raise UnusableFile(f"its header repeats {name!r}")
        found[name] = value.strip()
        if name == "ElementDataFile":
            return found
    raise UnusableFile("its header ends before ElementDataFile: it is truncated, or not a MetaImage")


def _affine(fields: dict[str, str], count: int) -> NDArray[np.float64]:
    """Return the affine of the first three axes; the rows of the matrix are the directions of the axes."""
    straight = " ".join(f"{value:g}" for value in np.eye(count).ravel())
    matrix = _first_of(fields, ("TransformMatrix", "Rotation", "Orientation"), straight)
    directions = numbers(matrix, count**2).reshape(count, count)
    if np.abs(directions[3:, :3]).any() or np.abs(directions[:3, 3:]).any():
        raise UnusableFile("its first three axes are not purely spatial")
    lengths = np.linalg.norm(directions[:3, :3], axis=1)
    if np.abs(lengths - 1).max() > 1e-3:
        raise UnusableFile("the directions of its axes (TransformMatrix) are not of length 1")
    if "ElementSpacing" not in fields and "ElementSize" not in fields:
        raise UnusableFile("its header has no ElementSpacing")
    spacing = numbers(_first_of(fields, ("ElementSpacing", "ElementSize"), ""), count)[:3]
    if spacing.min() <= 0:
        raise UnusableFile(f"its header has a spacing of {fields.get('ElementSpacing')}")
    affine = np.eye(4)
    affine[:3, :3] = LPS_TO_RAS @ (directions[:3, :3].T * spacing)
    affine[:3, 3] = LPS_TO_RAS @ numbers(_first_of(fields, ("Offset", "Position", "Origin"), "0 " * count), count)[:3]
    return checked_affine(affine)


def _dtype(fields: dict[str, str]) -> np.dtype[Any]:
    name = fields.get("ElementType", "")
    if name not in TYPES:
        raise UnusableFile(f"its voxels are of type {name!r}, which can't be read; save it as MET_SHORT or MET_FLOAT")
    if whole_numbers(fields.get("ElementNumberOfChannels", "1")) != [1]:
        raise UnusableFile("holds colour or vector values, not one number per voxel")
    if "BinaryData" in fields and not _boolean(fields, "BinaryData"):
        raise UnusableFile("has its voxels as text; save it as binary")
    for key, neutral in (("ElementToIntensityFunctionSlope", 1.0), ("ElementToIntensityFunctionOffset", 0.0)):
        if numbers(fields.get(key, str(neutral)), 1)[0] != neutral:
            raise UnusableFile(f"its header has {key} {fields[key]}, which not all readers apply; save it rescaled")
    high_first = _boolean(fields, "BinaryDataByteOrderMSB") or _boolean(fields, "ElementByteOrderMSB")
    return np.dtype((">" if high_first else "<") + TYPES[name])


def _boolean(fields: dict[str, str], name: str) -> bool:
    value = fields.get(name, "False").lower()
    if value not in ("true", "false", "1", "0"):
        raise UnusableFile(f"its header has {name} {value!r}, which is neither True nor False")
    return value in ("true", "1")


def _first_of(fields: dict[str, str], names: tuple[str, ...], default: str) -> str:
    """Return the first field present among synonyms."""
    return next((fields[name] for name in names if name in fields), default)
