"""Reading voxels from plain or compressed streams, never more than the header claims."""

import bz2
import gzip
import logging
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from gvsl.io.volume import UnusableFile

GZIP_MAGIC = b"\x1f\x8b"
CHUNK_BYTES = 2**20
DEFLATE_RATIO = 1032
"""Maximum compression ratio of gzip and zlib."""
MAX_REST_BYTES = 2**20
"""Maximum padding after the voxels; a longer stream is a decompression bomb or no volume."""
BROKEN = (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, OverflowError, ArithmeticError)
"""Exceptions that parsers raise on malformed files."""


@contextmanager
def wrap_read_errors(what: str) -> Iterator[None]:
    """Turn the exceptions of reading a broken file into UnusableFile with a message of one line."""
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
        raise UnusableFile("needs more memory than is free") from None
    except BROKEN as error:
        raise UnusableFile(f"can't be read as {what} ({one_line(error)})") from None


@contextmanager
def silenced(logger: logging.Logger) -> Iterator[None]:
    """Suppress warnings and the messages of a library's logger."""
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def read_voxels(stream: IO[bytes], shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Read voxels in Fortran order, (D, H, W), and check that the stream ends behind them.

    Raises:
        UnusableFile: the stream is too short, or more than MAX_REST_BYTES too long.
    """
    wanted = prod(shape) * dtype.itemsize
    buffer = np.empty(wanted, np.uint8)  # the system provides the pages only as they are filled
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
    """Read to the end of a stream, where a compressed one has its checksum.

    Raises:
        UnusableFile: more than MAX_REST_BYTES are left.
    """
    rest = 0
    while chunk := stream.read(CHUNK_BYTES):
        rest += len(chunk)
        refuse_overlong(rest)


def refuse_overlong(rest: int) -> None:
    """Refuse a file with more than MAX_REST_BYTES after its voxels; UnusableFile if `rest`, in bytes, is more."""
    if rest > MAX_REST_BYTES:
        raise UnusableFile(f"goes on for more than {MAX_REST_BYTES:,} bytes after its voxels")


@contextmanager
def decompressed(stream: IO[bytes], encoding: str) -> Iterator[IO[bytes]]:
    """Yield the stream decoded from raw, gzip, zlib or bzip2."""
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


def one_line(error: Exception) -> str:
    """Format an exception's text without line breaks, or its class name if it has none."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:200] or type(error).__name__


class _Zlib:
    """Readable file over a zlib stream."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.decoder = stream, zlib.decompressobj()

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, none at the end; EOFError if the stream ends before its checksum."""
        while not self.decoder.eof:
            packed = self.decoder.unconsumed_tail or self.stream.read(CHUNK_BYTES)
            if not packed:
                raise EOFError
            data = self.decoder.decompress(packed, size)
            if data:
                return data
        return b""

    def readinto(self, view: memoryview) -> int:
        """Fill the beginning of `view` and return how many bytes were read."""
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)
