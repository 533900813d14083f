"""Arrays of a store: one Blosc2 file each, chunked for reading crops."""

import os
from pathlib import Path
from typing import Any

import blosc2
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
IMAGE_TYPES = ("float16",)
LABEL_TYPES = ("uint8", "int16")
LEVEL = 1
"""Level 5 takes five times as long to write and saves 1 % more."""


def write_array(path: Path, array: NDArray[Any]) -> int:
    """Write an array with lossless compression, flush it to the disk, and return its size there in bytes.

    Raises:
        OSError: the disk is full, or the file can't be written.
    """
    chunks = tuple(min(CHUNK, size) for size in array.shape)
    blocks = tuple(min(BLOCK, size) for size in chunks)
    settings = blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=LEVEL, nthreads=1)
    whole = np.ascontiguousarray(array)
    packed = blosc2.asarray(whole, chunks=chunks, blocks=blocks, cparams=settings, contiguous=True).to_cframe()
    # Python's own errors name what is wrong with the disk.
    with path.open("wb") as file:
        file.write(packed)
        file.flush()
        os.fsync(file.fileno())
    return len(packed)


def read_array(
    path: Path, shape: tuple[int, ...], box: Box | None, types: tuple[str, ...] = (*IMAGE_TYPES, *LABEL_TYPES)
) -> NDArray[Any]:
    """Read `box` of an array, or the whole array.

    Raises:
        UserError: the file is missing or damaged, or has another shape, a type not in `types`, or NaN.
    """
    try:
        check_regular(path)
        # one thread: loaders read in many processes at once
        stored = blosc2.open(str(path), mode="r", dparams=blosc2.DParams(nthreads=1))
        if stored.shape != shape:
            raise UserError(f"{path} has shape {stored.shape}, but {shape} in the manifest; prepare the store again")
        if max(*stored.chunks, *stored.blocks) > MAX_CHUNK:  # each is allocated whole
            raise ValueError(f"its chunks have {stored.chunks} voxels")
        if str(stored.dtype) not in types:
            raise ValueError(f"it holds {stored.dtype}, not {' or '.join(types)}")
        found = np.asarray(stored[box if box is not None else (slice(None),) * 3])
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError, IndexError, MemoryError) as error:
        raise UserError(f"{path} can't be read ({error}); prepare the store again") from None
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise UserError(f"{path} holds values that are not finite; prepare the store again")
    return found
