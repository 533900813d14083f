"""Whole volumes of a run, checked, and packed for the page's viewer."""

import base64
import gzip
import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gvsl.errors import UserError

ARRAYS: dict[str, dict[str, tuple[str, ...]]] = {
    "segmentation": {"image": ("|u1",), "truth": ("|u1", "<i2"), "prediction": ("|u1", "<i2")},
    "pair": {"moving": ("|u1",), "fixed": ("|u1",), "warped": ("|u1",), "field": ("<i2",)},
}
"""The arrays of each kind of volume, and the types that each may have."""
MOST_BYTES = 300_000_000
"""Uncompressed, of one file: what claims more is refused before it is read."""


@dataclass(frozen=True)
class Volume:
    """One volume with what lies on it, or one pair."""

    kind: str
    title: str
    arrays: dict[str, NDArray[Any]]
    """(D, H, W) each, `field` (3, D, H, W); a pair's moving volume may have a shape of its own."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the grid that is scrolled through: the image's, or the fixed volume's."""
        return self.arrays["image" if self.kind == "segmentation" else "fixed"].shape

    def packed(self) -> dict[str, str]:
        """Each array's bytes in C order, gzipped, in base 64."""
        return {
            name: base64.b64encode(gzip.compress(np.ascontiguousarray(array).tobytes(), 6, mtime=0)).decode("ascii")
            for name, array in self.arrays.items()
        }


def read_volume(path: Path, kind: str, title: str) -> Volume:
    """Read one file of volumes.

    Raises:
        UserError: the file is missing or no npz file, claims to be huge, or lacks, adds or misshapes an array.
    """
    if kind not in ARRAYS:
        raise UserError(f"{path} is said to be of kind {kind!r}; a volume is one of {', '.join(ARRAYS)}")
    try:
        whole = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(whole)) as archive:
            if sum(item.file_size for item in archive.infolist()) > MOST_BYTES:
                raise UserError(f"{path} claims more than {MOST_BYTES // 10**6} MB; it is no volume of a run")
        file = np.load(io.BytesIO(whole), allow_pickle=False)
        arrays = {name: file[name] for name in ARRAYS[kind] if name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise UserError(f"{path} can't be read as volumes: {error}") from None
    problem = _problem(arrays, kind)
    if problem:
        raise UserError(f"{path} is a broken volume: {problem}")
    return Volume(kind, title, arrays)


def _problem(arrays: dict[str, NDArray[Any]], kind: str) -> str | None:
    """What is wrong with the arrays of a volume, or None."""
    missing = [name for name in ARRAYS[kind] if name not in arrays]
    if missing:
        return f"it lacks {', '.join(missing)}"
    grid = arrays["image" if kind == "segmentation" else "fixed"].shape
    for name, array in arrays.items():
        wanted = (3, *grid) if name == "field" else array.shape if name == "moving" else grid
        if array.shape != wanted or len(grid) != 3 or min(array.shape) < 1 or (name == "moving" and array.ndim != 3):
            return f"{name} has shape {array.shape}"
        if array.dtype.str not in ARRAYS[kind][name]:
            return f"{name} is of type {array.dtype}"
    return None
