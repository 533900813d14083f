"""Reading voxels out of a file or out of its compressed stream, never more than its header claims."""

import bz2
import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from gvsl.io.volume import UnusableFile

CHUNK_BYTES = 2**20
DEFLATE_RATIO = 1032
"""The most bytes that one byte of a gzip or zlib stream can unfold to."""
MAX_REST_BYTES = 2**20
"""The most bytes that may follow the voxels: some writers pad, but a stream that goes on is a bomb or no volume."""
HEADER_BYTES = 2**20
"""The longest header in text; the longest of a real file is a few thousand bytes."""
BROKEN = (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, OverflowError, ArithmeticError)
"""What parsing and reading raise on files that are not what they say."""


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Turn what reading a broken file raises into one line.

    Raises:
        UnusableFile: in place of any such error.
    """
    try:
        yield
    except UnusableFile:
        raise
    except FileNotFoundError:
        raise UnusableFile("there is no such file") from None
    except EOFError:
        raise UnusableFile("is truncated: its compressed data ends early") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UnusableFile(f"its compressed data is damaged ({one_line(error)})") from None
    except MemoryError:
        raise UnusableFile("is larger than the memory that is free") from None
    except BROKEN as error:
        raise UnusableFile(f"can't be read as {what} ({one_line(error)})") from None


def read_voxels(stream: IO[bytes], shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Read voxels whose first axis runs fastest, and see that next to nothing follows: (D, H, W).

    Raises:
        UnusableFile: the stream ends before, or goes on long after.
    """
    wanted = prod(shape) * dtype.itemsize
    buffer = np.empty(wanted, np.uint8)  # the system hands out the pages only as they are filled
    view = memoryview(buffer.data)
    done = 0
    while done < wanted:
        count = stream.readinto(view[done : done + CHUNK_BYTES])  # type: ignore[attr-defined]
        if not count:
            raise UnusableFile(f"is truncated: it holds {done} of {wanted} bytes of voxels")
        done += count
    refuse_rest(stream)
    return buffer.view(dtype).reshape(tuple(shape), order="F")


def refuse_rest(stream: IO[bytes]) -> None:
    """Read on to the end, where a compressed stream keeps its checksum, but not for long.

    Raises:
        UnusableFile: more than MAX_REST_BYTES are left.
    """
    rest = 0
    while chunk := stream.read(CHUNK_BYTES):
        rest += len(chunk)
        if rest > MAX_REST_BYTES:
            raise UnusableFile(f"goes on for more than {MAX_REST_BYTES:,} bytes after its voxels")


@contextmanager
def unfolded(stream: IO[bytes], encoding: str) -> Iterator[IO[bytes]]:
    """The bytes behind an encoding: raw, gzip, zlib or bzip2."""
    if encoding == "raw":
        yield stream
    elif encoding == "gzip":
        with gzip.GzipFile(fileobj=stream, mode="rb") as unzipped:
            yield cast(IO[bytes], unzipped)
    elif encoding == "bzip2":
        with bz2.BZ2File(stream, "rb") as unzipped:
            yield cast(IO[bytes], unzipped)
    else:
        yield cast(IO[bytes], _Zlib(stream))


def beside(header: Path, name: str) -> Path:
    """The file of voxels that a header names, which must lie in the header's folder or below it.

    Raises:
        UnusableFile: it lies elsewhere, is the header itself, or isn't there.
    """
    if not name or "\0" in name:
        raise UnusableFile("names no file of voxels")
    folder = header.parent.resolve()
    path = (folder / name).resolve()
    if path == header.resolve() or not path.is_relative_to(folder):
        raise UnusableFile(f"points to {name!r} for its voxels, which doesn't lie in its own folder")
    if not path.is_file():
        raise UnusableFile(f"its file of voxels {name!r} isn't there")
    return path


def header_lines(stream: IO[bytes]) -> Iterator[str]:
    """The lines of a header in text, without their ends; the stream stands behind the last one given.

    Raises:
        UnusableFile: the header goes on for more than HEADER_BYTES.
    """
    left = HEADER_BYTES
    while line := stream.readline(left):
        left -= len(line)
        if left <= 0:
            raise UnusableFile(f"its header is longer than {HEADER_BYTES:,} bytes")
        yield line.decode("utf-8", "replace").rstrip("\r\n")


def numbers(text: str, count: int) -> NDArray[np.float64]:
    """So many finite numbers with spaces between them.

    Raises:
        UnusableFile: these are others, or more, or fewer.
    """
    found = np.array([float(part) for part in text.split()])
    if found.size != count or not np.isfinite(found).all():
        raise UnusableFile(f"its header says {text[:80]!r} where {count} numbers belong")
    return found


def whole_numbers(text: str) -> list[int]:
    """Whole numbers with spaces between them.

    Raises:
        UnusableFile: these are others.
    """
    parts = text.split()
    if not all(part.lstrip("+-").isascii() and part.lstrip("+-").isdigit() and len(part) < 20 for part in parts):
        raise UnusableFile(f"its header says {text[:80]!r} where whole numbers belong")
    return [int(part) for part in parts]


def one_line(error: Exception) -> str:
    """An error's text without line breaks, or its name."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:200] or type(error).__name__


class _Zlib:
    """A zlib stream as a file to read from."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.decoder = stream, zlib.decompressobj()

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, none at the end.

        Raises:
            EOFError: the stream ends before its checksum.
        """
        while not self.decoder.eof:
            packed = self.decoder.unconsumed_tail or self.stream.read(CHUNK_BYTES)
            if not packed:
                raise EOFError
            data = self.decoder.decompress(packed, size)
            if data:
                return data
        return b""

    def readinto(self, view: memoryview) -> int:
        """Fill the beginning of `view`, and say how much."""
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)
