"""NRRD files: .nrrd, and .nhdr with the voxels in a file of their own. Files are untrusted."""

import re
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gvsl.io.header_checks import checked_affine, checked_shape
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

MAGIC = b"NRRD000"
SEVERAL_FILES = re.compile("LIST|.*%")
TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
"""Names of each type in the format."""
ENCODINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
TO_RAS = {
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
}
"""Anatomical spaces, and the sign of each axis that turns them into RAS."""


def load_nrrd(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Load the voxels in their stored type, (D, H, W), and the RAS+ affine in millimetres.

    Raises:
        UnusableFile: the file can't be used.
    """
    return load_with_header(path, "NRRD", _parse, SEVERAL_FILES)


def peek_nrrd(path: Path, count: int) -> tuple[tuple[int, int, int], NDArray[np.float64], NDArray[Any]]:
    """Return shape, RAS+ affine and about `count` voxels of the middle; UnusableFile if the file can't be used."""
    return peek_with_header(path, "NRRD", _parse, SEVERAL_FILES, count)


def nrrd_files(path: Path) -> list[Path]:
    """Return the file and that of its voxels, if it is another; UnusableFile if there is none."""
    return files_with_header(path, "NRRD", _parse)


def _parse(stream: IO[bytes]) -> TextHeader:
    fields = _fields(stream)
    sizes, spatial = _sizes(fields)
    shape = checked_shape([sizes[axis] for axis in spatial])
    affine = _affine(fields, spatial)
    dtype = _dtype(fields)
    encoding = ENCODINGS.get(fields.get("encoding", "").lower())
    if encoding is None:
        raise UnusableFile(f"its voxels are encoded as {fields.get('encoding')!r}; save it as raw or gzip")
    if whole_numbers(fields.get("line skip", fields.get("lineskip", "0"))) != [0]:
        raise UnusableFile("its header skips lines before the voxels; save it without that")
    skips = whole_numbers(fields.get("byte skip", fields.get("byteskip", "0")))
    if len(skips) != 1 or not (skips[0] >= -1 if encoding == "raw" else skips[0] == 0):
        raise UnusableFile(f"its header skips {' '.join(map(str, skips))} bytes before its {encoding} voxels")
    return TextHeader(shape, affine, dtype, encoding, skips[0], fields.get("data file", fields.get("datafile")))


def _fields(stream: IO[bytes]) -> dict[str, str]:
    """Read the header's fields by lower-case name, up to the voxels or the list of their files."""
    lines = header_lines(stream)
    if not next(lines, "").startswith(MAGIC.decode()):
        raise UnusableFile("is not a NRRD file")
    found: dict[str, str] = {}
    for line in lines:
        if not line:
            return found
        name, colon, value = line.partition(":")
        if line.startswith("#") or value.startswith("="):  # a comment, or a custom key-value pair
            continue
        if not colon:
            raise UnusableFile(f"its header has a line {line[:80]!r}, which is no field")
        name = name.strip().lower()
        if name in found:
            raise UnusableFile(f"its header repeats {name!r}")
        found[name] = value.strip()
        if name in ("data file", "datafile") and value.strip().startswith("LIST"):
            return found
    return found


def _sizes(fields: dict[str, str]) -> tuple[list[int], list[int]]:
    """Return the size of every axis, and the spatial axes: all but those of size 1 without a direction."""
    sizes = whole_numbers(fields.get("sizes", ""))
    if whole_numbers(fields.get("dimension", "")) != [len(sizes)]:
        raise UnusableFile(f"its header has dimension {fields.get('dimension')} and sizes {fields.get('sizes')}")
    directions = _directions(fields)
    if len(directions) != len(sizes):
        raise UnusableFile(f"its header has {len(sizes)} sizes and {len(directions)} space directions")
    spatial = [axis for axis, direction in enumerate(directions) if direction is not None]
    for axis, size in enumerate(sizes):
        if axis not in spatial and size != 1:
            raise UnusableFile(f"holds {size} values per voxel, or frames; split it into 3D volumes first")
    return sizes, spatial


def _directions(fields: dict[str, str]) -> list[NDArray[np.float64] | None]:
    """Return the step along each axis in the file's own space; None for an axis that isn't spatial."""
    text = fields.get("space directions", "")
    if re.sub(r"\([^()]*\)|none|\s", "", text):
        raise UnusableFile(f"its header has space directions {text[:80]!r}, which are no vectors")
    parts = re.findall(r"\(([^()]*)\)|(none)", text)
    return [None if none else numbers(vector.replace(",", " "), 3) for vector, none in parts]


def _affine(fields: dict[str, str], spatial: list[int]) -> NDArray[np.float64]:
    space = fields.get("space", "").lower()
    if space not in TO_RAS or len(spatial) != 3:
        why = f"its space is {space!r}" if space and space not in TO_RAS else "it names no space and directions"
        raise UnusableFile(f"has no orientation in the patient: {why}; give it space and space directions")
    units = re.findall(r'"([^"]*)"', fields.get("space units", ""))
    if any(unit.strip().lower() not in ("mm", "millimeter", "millimetre", "") for unit in units):
        raise UnusableFile(f"its space is in {units[0]!r}, not in mm")
    affine = np.eye(4)
    for column, axis in enumerate(spatial):
        affine[:3, column] = _directions(fields)[axis]
    origin = fields.get("space origin", "(0,0,0)").strip()
    affine[:3, 3] = numbers(origin.removeprefix("(").removesuffix(")").replace(",", " "), 3)
    affine[:3] *= np.array(TO_RAS[space])[:, None]
    return checked_affine(affine)


def _dtype(fields: dict[str, str]) -> np.dtype[Any]:
    name = " ".join(fields.get("type", "").lower().split())
    code = next((code for code, names in TYPES.items() if name in names), None)
    if code is None:
        raise UnusableFile(f"its voxels are of type {name!r}, not one number per voxel")
    order = {"little": "<", "big": ">"}.get(fields.get("endian", "").lower())
    if order is None and code[1] != "1":
        raise UnusableFile("its header has no byte order (endian)")
    return np.dtype((order or "<") + code)
