"""The common reader of NRRD and MetaImage: a text header, and voxels behind it or in a separate data file."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gvsl.files import real_path
from gvsl.io.header_checks import refuse_short, refuse_wrapped
from gvsl.io.stream import CHUNK_BYTES, DEFLATE_RATIO, decompressed, read_voxels, wrap_read_errors
from gvsl.io.volume import MAX_VOXELS, UnusableFile

MAX_HEADER_BYTES = 2**20
"""Real headers have a few thousand bytes."""
RATIOS = {"raw": 1, "gzip": DEFLATE_RATIO, "zlib": DEFLATE_RATIO, "bzip2": MAX_VOXELS}
"""Maximum compression ratio of each encoding; bzip2 has no useful bound."""


@dataclass(frozen=True, eq=False)
class TextHeader:
    """Description of the voxels, from a checked header."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    dtype: np.dtype[Any]
    encoding: str
    """A key of RATIOS."""
    skip: int
    """Bytes before the voxels; -1 if these are the end of the file."""
    data_file: str | None
    """Name of the file with the voxels; None if they follow the header."""


def load_with_header(
    path: Path, name: str, parse: Callable[[IO[bytes]], TextHeader], several: re.Pattern[str]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Load the voxels in their stored type, (D, H, W), and the RAS+ affine in millimetres.

    Args:
        path: the header's file.
        name: of the format.
        parse: reads the header and leaves the stream right behind it.
        several: matches a `data_file` that stands for several files.

    Raises:
        UnusableFile: the file can't be used.
    """
    with wrap_read_errors(name), _opened(path, parse, several) as (header, stream, size):
        return _read_block(stream, header, size), header.affine


def peek_with_header(
    path: Path, name: str, parse: Callable[[IO[bytes]], TextHeader], several: re.Pattern[str], count: int
) -> tuple[tuple[int, int, int], NDArray[np.float64], NDArray[Any]]:
    """Return shape and affine of a volume, and about `count` voxels of its middle planes in their stored type.

    The arguments and errors are those of `load_with_header`.
    """
    with wrap_read_errors(name), _opened(path, parse, several) as (header, stream, size):
        first, planes = middle_planes(header.shape, count)
        plane = header.shape[0] * header.shape[1]
        skipped, wanted = (number * plane * header.dtype.itemsize for number in (first, planes))
        found = bytearray()
        with _voxel_stream(stream, header, size) as plain:
            while skipped > 0 and (chunk := plain.read(min(skipped, CHUNK_BYTES))):
                skipped -= len(chunk)
            while wanted > len(found) and (chunk := plain.read(wanted - len(found))):
                found += chunk
        return header.shape, header.affine, np.frombuffer(found, header.dtype, len(found) // header.dtype.itemsize)


def files_with_header(path: Path, name: str, parse: Callable[[IO[bytes]], TextHeader]) -> list[Path]:
    """Return the header's file and, if it names one, the file with the voxels.

    The arguments and errors are those of `load_with_header`.
    """
    with wrap_read_errors(name), path.open("rb") as stream:
        header = parse(stream)
    return [path] if header.data_file is None else [path, data_path(path, header.data_file)]


def middle_planes(shape: tuple[int, ...], count: int) -> tuple[int, int]:
    """Return the first and the number of the planes along the last axis, in the middle, with about `count` voxels."""
    planes = min(shape[2], -(-count // (shape[0] * shape[1])))
    return (shape[2] - planes) // 2, planes


def header_lines(stream: IO[bytes]) -> Iterator[str]:
    """Yield the lines of a text header without line ends; the stream stays right behind the last one.

    Raises:
        UnusableFile: the header is longer than MAX_HEADER_BYTES.
    """
    left = MAX_HEADER_BYTES
    while line := stream.readline(left):
        left -= len(line)
        if left <= 0:
            raise UnusableFile(f"its header is longer than {MAX_HEADER_BYTES:,} bytes")
        yield line.decode("utf-8", "replace").rstrip("\r\n")


def numbers(text: str, count: int) -> NDArray[np.float64]:
    """Parse `count` finite numbers separated by spaces; UnusableFile if the text holds anything else."""
    found = np.array([float(part) for part in text.split()])
    if found.size != count or not np.isfinite(found).all():
        raise UnusableFile(f"its header has {text[:80]!r} where {count} numbers belong")
    return found


def whole_numbers(text: str) -> list[int]:
    """Parse whole numbers separated by spaces; UnusableFile if the text holds anything else."""
    parts = text.split()
    if not all(part.lstrip("+-").isascii() and part.lstrip("+-").isdigit() and len(part) < 20 for part in parts):
        raise UnusableFile(f"its header has {text[:80]!r} where whole numbers belong")
    return [int(part) for part in parts]


@contextmanager
def _opened(
    path: Path, parse: Callable[[IO[bytes]], TextHeader], several: re.Pattern[str]
) -> Iterator[tuple[TextHeader, IO[bytes], int]]:
    """Yield the parsed header, the open file that holds the voxels, and the size of that file."""
    with path.open("rb") as stream:
        header = parse(stream)
        if header.data_file is None:
            yield header, stream, path.stat().st_size
            return
        if several.match(header.data_file):
            raise UnusableFile("has its voxels in several files; save it as one")
        data = data_path(path, header.data_file)
        with data.open("rb") as other:
            yield header, other, data.stat().st_size


@contextmanager
def _voxel_stream(stream: IO[bytes], header: TextHeader, size: int) -> Iterator[IO[bytes]]:
    """Yield the decompressed voxels of a file of `size` bytes that can hold them."""
    needed = prod(header.shape) * header.dtype.itemsize
    if header.skip == -1:
        stream.seek(max(size - needed, 0))
    else:
        stream.seek(header.skip, 1)
    refuse_short(header.shape, needed, (size - stream.tell()) * RATIOS[header.encoding])
    with decompressed(stream, header.encoding) as plain:
        yield plain


def _read_block(stream: IO[bytes], header: TextHeader, size: int) -> NDArray[Any]:
    with _voxel_stream(stream, header, size) as plain:
        array = read_voxels(plain, header.shape, header.dtype)
    refuse_wrapped(array, header.dtype)
    return array


def data_path(header: Path, name: str) -> Path:
    """Resolve the data file that a header names; it must lie in the header's folder or below."""
    if not name or "\0" in name:
        raise UnusableFile("names no data file")
    folder = real_path(header.parent)
    plain = Path(os.path.normpath(folder / name))
    path = real_path(plain)
    if path == real_path(header) or not path.is_relative_to(folder):
        if plain.is_relative_to(folder) and plain != path:
            raise UnusableFile(
                f"names the data file {name!r}, which is a link that leads outside its own folder; put the file itself "
                "there (as cp -L does, or git annex unlock)"
            )
        raise UnusableFile(f"names the data file {name!r}, which lies outside its own folder")
    if not path.is_file():
        raise UnusableFile(f"its data file {name!r} does not exist")
    return path
