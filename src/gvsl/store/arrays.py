"""Arrays of a store: one Blosc2 file each, chunked for reading crops, with checksums."""

import errno
import hashlib
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gvsl.errors import UserError
from gvsl.io import Box
from gvsl.readers import check_regular

CHUNK = 64
BLOCK = 16
"""A 64-cubed crop of heart MR takes 2 ms with ZSTD at half the size; 0.8 ms with LZ4, which hardly compresses it."""
MAX_CHUNK = 256
"""Maximum side of a chunk in voxels."""
LEVEL = 1
"""Level 5 takes five times as long to write and saves 1 % more."""
IMAGE_TYPES = ("float16",)
LABEL_TYPES = ("uint8", "int16")
CHECKSUMS = "gvsl-crc32"
"""The metalayer with the checksums; arrays of an earlier gvsl have none."""
MAGIC = b"gvsl:crc"
"""How its content begins; CRC-32 of the frame around the chunks, and of each compressed chunk, follow."""
HEADER_BYTES = 47
"""Beginning of a Blosc2 frame up to the size of its chunks."""
MAX_HEADER = 2**24
INFINITE, MINUS_INFINITE = 0x7C00, 0xFC00
"""Bits of the infinities in float16; NaN has larger ones."""
PREPARE = "prepare the store again"
BROKEN = (
    OSError,
    RuntimeError,
    ValueError,
    AttributeError,
    KeyError,
    TypeError,
    IndexError,
    OverflowError,
    struct.error,
    MemoryError,
)
"""What Blosc2 raises for a damaged file."""


class ArrayFile(NamedTuple):
    """An array's file, and what it must hold."""

    path: Path
    shape: tuple[int, ...]
    types: tuple[str, ...]


class DamagedArrayError(UserError):
    """An array's file is not as it was written, or not what it should hold; another copy of it may be."""

    def __init__(self, cause: str, fix: str = "") -> None:
        super().__init__(f"{cause}; {fix}" if fix else cause)
        self.cause = cause


class _DamagedError(Exception):
    """A file is not as it was written."""


def write_array(path: Path, array: NDArray[Any]) -> int:
    """Write an array with lossless compression, flush it to the disk, and return its size there in bytes.

    Raises:
        OSError: the disk is full, or the file can't be written.
    """
    packed = pack_array(array)
    # Python's own errors name what is wrong with the disk.
    with path.open("wb") as file:
        file.write(packed)
        file.flush()
        os.fsync(file.fileno())
    return len(packed)


def pack_array(array: NDArray[Any]) -> bytes:
    """Return an array, (D, H, W) or (C, D, H, W), as the bytes of its file: a Blosc2 frame with checksums of its parts.

    A chunk holds voxels of one channel.
    """
    import blosc2  # slow to import, and not needed to describe a store

    chunks = _chunks(array.shape)
    blocks = tuple(min(BLOCK, size) for size in chunks)
    settings = blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=LEVEL, nthreads=1)
    whole = np.ascontiguousarray(array)
    empty = MAGIC + bytes(4 + 4 * _chunk_count(array.shape))
    made = blosc2.asarray(
        whole, chunks=chunks, blocks=blocks, cparams=settings, contiguous=True, meta={CHECKSUMS: empty}
    )
    packed = bytearray(made.to_cframe())
    start = packed.index(MAGIC) + len(MAGIC)
    sums = [zlib.crc32(made.schunk.get_chunk(number)) for number in range(made.schunk.nchunks)]
    struct.pack_into(f"<{len(sums)}I", packed, start + 4, *sums)
    header, chunked = _sizes(packed)
    struct.pack_into("<I", packed, start, zlib.crc32(packed[header + chunked :], zlib.crc32(packed[:header])))
    return bytes(packed)


def read_array(
    path: Path, shape: tuple[int, ...], box: Box | None, types: tuple[str, ...] = (*IMAGE_TYPES, *LABEL_TYPES)
) -> NDArray[Any]:
    """Read `box` of an array, or the whole array, after comparing the checksums of all chunks that it touches.

    Of an array of several channels, (C, D, H, W), the box is read of each.

    Raises:
        DamagedArrayError: the file is damaged, or has another shape, a type not in `types`, or NaN.
        UserError: it is missing, or this machine can't read it now, as where memory is short.
    """
    import blosc2  # as in `pack_array`

    try:
        check_regular(path)
        sums = _checked_frame(path, shape)
        # one thread: loaders read in many processes at once
        stored = blosc2.open(str(path), mode="r", dparams=blosc2.DParams(nthreads=1))
        if stored.shape != shape:
            raise DamagedArrayError(f"{path} has shape {stored.shape}, but {shape} in the manifest", PREPARE)
        if str(stored.dtype) not in types:
            raise DamagedArrayError(f"{path} holds {stored.dtype}, not {' or '.join(types)}", PREPARE)
        if max(*stored.chunks, *stored.blocks) > MAX_CHUNK:  # each is allocated whole
            raise ValueError(f"its chunks have {stored.chunks} voxels")
        if sums is not None:
            _compare(stored.schunk, sums, _touched(shape, box))
        elif CHECKSUMS in stored.schunk.meta:
            raise _DamagedError
        found = np.asarray(stored[_whole(shape, box)])
    except _DamagedError:
        raise DamagedArrayError(
            f"{path} can't be read: it is damaged, its bytes don't have their checksum", f"copy it again, or {PREPARE}"
        ) from None
    except BROKEN as error:
        if _of_this_machine(error):
            reason = str(error) or type(error).__name__
            raise UserError(f"{path} can't be read ({reason}); mend that, or {PREPARE}") from None
        raise DamagedArrayError(f"{path} can't be read ({error})", PREPARE) from None
    if found.dtype == np.float16 and _has_non_finite(found):
        raise DamagedArrayError(f"{path} holds values that are not finite", PREPARE)
    return found


def _of_this_machine(error: BaseException) -> bool:
    """Return True if a file may be whole although it can't be read: memory or open files are short, or it isn't there.

    Blosc2's own errors have no number, and a disk that fails to read damages what it holds.
    """
    if isinstance(error, OSError):
        return error.errno not in (None, errno.EIO)
    return isinstance(error, MemoryError)


def _has_non_finite(array: NDArray[np.float16]) -> bool:
    """Return True if a value is infinite or NaN; by the bits, without a second array."""
    positive, any_sign = array.view(np.int16), array.view(np.uint16)
    return bool(positive.max(initial=0) >= INFINITE or any_sign.max(initial=0) >= MINUS_INFINITE)


def voxel_hash(files: Iterable[ArrayFile]) -> str:
    """Return the SHA-256, in hex, of the voxels of a case's arrays, image first, as the table of cases has it.

    Raises:
        UserError: one can't be read, as by `read_array`, which compares its checksums.
    """
    digest = hashlib.sha256()
    for file in files:
        digest.update(np.ascontiguousarray(read_array(file.path, file.shape, None, file.types)).data)
    return digest.hexdigest()


def has_checksums(path: Path) -> bool:
    """Return True if an array has checksums; one of an earlier gvsl has none."""
    with path.open("rb") as file:
        header, _ = _sizes(file.read(HEADER_BYTES))
        file.seek(0)
        return MAGIC in file.read(header)


def _checked_frame(path: Path, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the checksums of the chunks, after comparing that of the frame around them; None if there are none."""
    with path.open("rb") as file:
        header, chunked = _sizes(file.read(HEADER_BYTES))
        file.seek(0)
        head = bytearray(file.read(header))
        start = head.find(MAGIC)
        if start < 0:
            return None
        file.seek(header + chunked)
        tail = file.read()
    start, count = start + len(MAGIC), _chunk_count(shape)
    if start + 4 + 4 * count > len(head):
        raise _DamagedError
    (expected,) = struct.unpack_from("<I", head, start)
    struct.pack_into("<I", head, start, 0)
    if zlib.crc32(tail, zlib.crc32(head)) != expected:
        raise _DamagedError
    return struct.unpack_from(f"<{count}I", head, start + 4)


def _sizes(frame: bytes | bytearray) -> tuple[int, int]:
    """Return the bytes of a Blosc2 frame's header and of its chunks, from its first HEADER_BYTES bytes."""
    (header,), (chunked,) = struct.unpack_from(">i", frame, 11), struct.unpack_from(">q", frame, 39)
    if not HEADER_BYTES <= header <= MAX_HEADER or not 0 <= chunked < 2**62:
        raise _DamagedError
    return header, chunked


def _compare(stored: Any, sums: tuple[int, ...], numbers: Iterator[int]) -> None:
    if stored.nchunks != len(sums):
        raise _DamagedError
    for number in numbers:
        if zlib.crc32(stored.get_chunk(number)) != sums[number]:
            raise _DamagedError


def _touched(shape: tuple[int, ...], box: Box | None) -> Iterator[int]:
    """Yield the numbers of the chunks that hold a part of `box`."""
    counts = _counts(shape)
    sides = [side.indices(size) for side, size in zip(_whole(shape, box), shape, strict=True)]
    ranges = [
        range(first // edge, -(-last // edge)) for (first, last, _), edge in zip(sides, _chunks(shape), strict=True)
    ]
    for place in product(*ranges):
        yield int(np.ravel_multi_index(place, counts))


def _whole(shape: tuple[int, ...], box: Box | None) -> tuple[slice, ...]:
    """Return a box of (D, H, W), or all of it, as slices of all axes of an array."""
    given = () if box is None else box
    return (*(slice(None),) * (len(shape) - len(given)), *given)


def _chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the sides of a chunk: of one channel, if there are several."""
    return (*(1,) * (len(shape) - 3), *(min(CHUNK, size) for size in shape[-3:]))


def _counts(shape: tuple[int, ...]) -> list[int]:
    """Return the number of chunks along each axis."""
    return [-(-size // edge) for size, edge in zip(shape, _chunks(shape), strict=True)]


def _chunk_count(shape: tuple[int, ...]) -> int:
    return prod(_counts(shape))
