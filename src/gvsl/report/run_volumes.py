"""Read whole volumes of a run, check them, and pack them for the page's viewer."""

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
GRIDS = {"segmentation": "image", "pair": "fixed"}
"""The array whose grid is scrolled through."""
MAX_BYTES = 300_000_000
"""Maximum uncompressed size of a file; larger ones are refused before they are read."""


@dataclass(frozen=True)
class Volume:
    """One volume with its label maps, or one pair."""

    kind: str
    title: str
    arrays: dict[str, NDArray[Any]]
    """(D, H, W) each, `field` (3, D, H, W); the moving volume of a pair may have its own shape."""

    def packed(self) -> dict[str, str]:
        """Return the bytes of each array in C order, gzipped, in base 64."""
        return {
            name: base64.b64encode(gzip.compress(np.ascontiguousarray(array).tobytes(), 6, mtime=0)).decode("ascii")
            for name, array in self.arrays.items()
        }


def read_volume(path: Path, kind: str, title: str) -> Volume:
    """Read one file of volumes.

    Raises:
        UserError: the file is missing, not an npz file or too large, or lacks or misshapes an array.
    """
    if kind not in ARRAYS:
        raise UserError(f"{path} has kind {kind!r} in its record; a volume is one of {', '.join(ARRAYS)}")
    try:
        whole = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(whole)) as archive:
            if sum(item.file_size for item in archive.infolist()) > MAX_BYTES:
                raise UserError(f"{path} unpacks to more than {MAX_BYTES // 10**6} MB; it is not a volume of a run")
        file = np.load(io.BytesIO(whole), allow_pickle=False)
        arrays = {name: file[name] for name in ARRAYS[kind] if name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise UserError(f"{path} can't be read as volumes: {error}") from None
    problem = _problem(arrays, kind)
    if problem:
        raise UserError(f"{path} is a broken volume: {problem}")
    return Volume(kind, title, arrays)


def _problem(arrays: dict[str, NDArray[Any]], kind: str) -> str | None:
    """Describe what is wrong with the arrays of a volume; None if nothing is."""
    missing = [name for name in ARRAYS[kind] if name not in arrays]
    if missing:
        return f"it lacks {', '.join(missing)}"
    grid = arrays[GRIDS[kind]].shape
    for name, array in arrays.items():
        wanted = (3, *grid) if name == "field" else array.shape if name == "moving" else grid
        if array.shape != wanted or len(grid) != 3 or min(array.shape) < 1 or (name == "moving" and array.ndim != 3):
            return f"{name} has shape {array.shape}"
        if array.dtype.str not in ARRAYS[kind][name]:
            return f"{name} is of type {array.dtype}"
    return None
