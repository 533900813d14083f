"""MetaImage files (.mha, and .mhd beside its voxels): read with every check that a hostile file needs."""

import re
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gvsl.io.header_checks import checked_affine, checked_shape, refuse_short, refuse_wrapped
from gvsl.io.stream import (
    DEFLATE_RATIO,
    beside,
    header_lines,
    numbers,
    read_voxels,
    readable,
    unfolded,
    whole_numbers,
)
from gvsl.io.volume import UnusableFile

FIRST_LINE = re.compile(rb"\s*(ObjectType|NDims|Comment|ObjectSubType)\s*=")
"""A MetaImage has no magic number; it begins with one of these."""
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
"""MET_LONG is left out: it has 4 or 8 bytes, as the writer's machine had it."""
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
SEVERAL = re.compile(r"LIST\b|.*%\d*d")
"""Of the file of voxels, where there are many."""


def load_metaimage(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The voxels as they are stored, (D, H, W), and the affine in millimetres of RAS+.

    Space is LPS, as ITK reads and writes it, whatever AnatomicalOrientation says; without a TransformMatrix the
    axes are those of space, which is the format's default.

    Raises:
        UnusableFile: the file can't be used.
    """
    with readable("MetaImage"), path.open("rb") as stream:
        fields = _fields(stream)
        sizes = whole_numbers(fields.get("DimSize", ""))
        if whole_numbers(fields.get("NDims", "")) != [len(sizes)]:
            raise UnusableFile(f"its header says NDims {fields.get('NDims')} and DimSize {fields.get('DimSize')}")
        shape = checked_shape(sizes)
        affine = _affine(fields, len(sizes))
        dtype = _dtype(fields)
        name = fields["ElementDataFile"]
        if name == "LOCAL":
            return _read(stream, fields, shape, dtype, path), affine
        if SEVERAL.match(name):
            raise UnusableFile("has its voxels in several files; save it as one")
        voxels = beside(path, name)
        with voxels.open("rb") as other:
            return _read(other, fields, shape, dtype, voxels), affine


def _read(
    stream: IO[bytes], fields: dict[str, str], shape: tuple[int, int, int], dtype: np.dtype[Any], at: Path
) -> NDArray[Any]:
    """The voxels from where the stream stands."""
    compressed = _truth(fields, "CompressedData")
    needed = prod(shape) * dtype.itemsize
    skips = whole_numbers(fields.get("HeaderSize", "0"))
    if skips == [-1] and not compressed:
        stream.seek(max(at.stat().st_size - needed, 0))
    elif len(skips) == 1 and skips[0] >= 0 and (skips == [0] or fields["ElementDataFile"] != "LOCAL"):
        stream.seek(skips[0], 1)
    else:
        raise UnusableFile(f"its header says HeaderSize {fields['HeaderSize']}, which can't be meant")
    left = at.stat().st_size - stream.tell()
    refuse_short(shape, needed, left * (DEFLATE_RATIO if compressed else 1))
    with unfolded(stream, "zlib" if compressed else "raw") as plain:
        array = read_voxels(plain, shape, dtype)
    refuse_wrapped(array, dtype)
    return array


def _fields(stream: IO[bytes]) -> dict[str, str]:
    """The header's fields by name; the last is ElementDataFile, and the stream stands behind it then."""
    found: dict[str, str] = {}
    for line in header_lines(stream):
        if not line.strip():
            continue
        name, equals, value = line.partition("=")
        name = name.strip()
        if not equals:
            raise UnusableFile(f"its header has a line {line[:80]!r}, which is no field")
        if name in found and name != "Comment":
            raise UnusableFile(f"its header says {name!r} twice")
        found[name] = value.strip()
        if name == "ElementDataFile":
            return found
    raise UnusableFile("its header ends before ElementDataFile: it is truncated, or not a MetaImage")


def _affine(fields: dict[str, str], count: int) -> NDArray[np.float64]:
    """Of the first three axes: the lines of the matrix are the directions of the axes."""
    straight = " ".join(f"{value:g}" for value in np.eye(count).ravel())
    matrix = _one_of(fields, ("TransformMatrix", "Rotation", "Orientation"), straight)
    directions = numbers(matrix, count**2).reshape(count, count)
    if np.abs(directions[3:, :3]).any() or np.abs(directions[:3, 3:]).any():
        raise UnusableFile("its first three axes don't lie in space alone")
    lengths = np.linalg.norm(directions[:3, :3], axis=1)
    if np.abs(lengths - 1).max() > 1e-3:
        raise UnusableFile("the directions of its axes (TransformMatrix) are not of length 1")
    if "ElementSpacing" not in fields and "ElementSize" not in fields:
        raise UnusableFile("its header says no ElementSpacing")
    spacing = numbers(_one_of(fields, ("ElementSpacing", "ElementSize"), ""), count)[:3]
    if spacing.min() <= 0:
        raise UnusableFile(f"its header says a spacing of {fields.get('ElementSpacing')}")
    affine = np.eye(4)
    affine[:3, :3] = LPS_TO_RAS @ (directions[:3, :3].T * spacing)
    affine[:3, 3] = LPS_TO_RAS @ numbers(_one_of(fields, ("Offset", "Position", "Origin"), "0 " * count), count)[:3]
    return checked_affine(affine)


def _dtype(fields: dict[str, str]) -> np.dtype[Any]:
    name = fields.get("ElementType", "")
    if name not in TYPES:
        raise UnusableFile(f"its voxels are of type {name!r}, which can't be read; save it as MET_SHORT or MET_FLOAT")
    if whole_numbers(fields.get("ElementNumberOfChannels", "1")) != [1]:
        raise UnusableFile("holds colour or vector values, not one number a voxel")
    if "BinaryData" in fields and not _truth(fields, "BinaryData"):
        raise UnusableFile("has its voxels as text; save it as binary")
    for key, none in (("ElementToIntensityFunctionSlope", 1.0), ("ElementToIntensityFunctionOffset", 0.0)):
        if numbers(fields.get(key, str(none)), 1)[0] != none:
            raise UnusableFile(f"its header says {key} {fields[key]}, which readers take or leave; save it rescaled")
    high_first = _truth(fields, "BinaryDataByteOrderMSB") or _truth(fields, "ElementByteOrderMSB")
    return np.dtype((">" if high_first else "<") + TYPES[name])


def _truth(fields: dict[str, str], name: str) -> bool:
    value = fields.get(name, "False").lower()
    if value not in ("true", "false", "1", "0"):
        raise UnusableFile(f"its header says {name} {value!r}, which is neither True nor False")
    return value in ("true", "1")


def _one_of(fields: dict[str, str], names: tuple[str, ...], default: str) -> str:
    """What is said by the first of some names for one thing."""
    return next((fields[name] for name in names if name in fields), default)
