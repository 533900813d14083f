"""Readers of a run's arrays: pictures, which are the slices of one example, and whole volumes."""

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gvsl.errors import UserError
from gvsl.readers import read_bytes

Array = NDArray[np.float64]

Spacing = tuple[float, float, float]
"""Size of a voxel along each axis, in mm."""

AXES = (0, 1, 2)
CUBES: Spacing = (1.0, 1.0, 1.0)
PICTURES: dict[str, tuple[str, ...]] = {
    "pair": ("moving", "fixed", "affine", "warped", "grid"),
    "restoration": ("original", "damaged", "restored"),
    "segmentation": ("image", "truth", "prediction"),
}
"""The arrays of each kind of picture, each for all three axes."""
OPTIONAL_ARRAYS: dict[str, tuple[str, ...]] = {
    "pair": ("moving_label", "fixed_label", "warped_label"),
    "segmentation": ("confidence",),
}
OWN_GRID = ("moving", "moving_label")
"""The arrays of a pair on the moving image's grid; all others are on the fixed one's."""
VOLUMES: dict[str, dict[str, tuple[str, ...]]] = {
    "segmentation": {"image": ("|u1",), "truth": ("|u1", "<i2"), "prediction": ("|u1", "<i2")},
    "pair": {"moving": ("|u1",), "fixed": ("|u1",), "warped": ("|u1",), "field": ("<i2",)},
}
"""The arrays of each kind of volume, and the types that each may have."""
GRIDS = {"segmentation": "image", "restoration": "original", "pair": "fixed"}
"""The array whose grid the others of its kind have, and that a volume is scrolled by."""
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
MAX_AXES = 4
BROKEN = (OSError, ValueError, TypeError, EOFError, KeyError, IndexError, SyntaxError, OverflowError, MemoryError)
"""What reading a broken npz file raises."""
MAX_BYTES = 300_000_000
"""Maximum size of a file's arrays in memory; larger ones are refused before they are read."""


@dataclass(frozen=True)
class Picture:
    """The slices of one example, by name and axis, such as `moving_0`."""

    kind: str
    title: str
    arrays: dict[str, Array]
    scalars: dict[str, float]
    spacing: Spacing = CUBES

    def planes(self, name: str) -> list[Array] | None:
        """Return the array `name` for the three axes, or None if the picture lacks it."""
        return self[name] if f"{name}_0" in self.arrays else None

    def __getitem__(self, name: str) -> list[Array]:
        """Return the array `name`, which the picture must have, for the three axes."""
        return [self.arrays[f"{name}_{axis}"] for axis in AXES]


class Volume(NamedTuple):
    """One volume with its label maps, or one pair."""

    kind: str
    title: str
    arrays: dict[str, NDArray[Any]]
    """(D, H, W) each, `field` (3, D, H, W); the moving volume of a pair may have its own shape."""
    spacing: Spacing = CUBES


def read_picture(path: Path, kind: str, title: str, spacing: Spacing = CUBES) -> Picture:
    """Read one picture: the 2D arrays of its kind for the three axes, and its scalars.

    Raises:
        UserError: the file is missing, not an npz file or too large, or lacks or misshapes an array.
    """
    stored = _read(path, kind, PICTURES, "picture", np.float64)
    arrays = {name: array for name, array in stored.items() if array.ndim > 0}
    problem = _picture_problem(arrays, kind)
    if problem:
        raise UserError(f"{path} is a broken picture: {problem}")
    return Picture(
        kind, title, arrays, {name: float(array) for name, array in stored.items() if array.ndim == 0}, spacing
    )


def read_volume(path: Path, kind: str, title: str, spacing: Spacing = CUBES) -> Volume:
    """Read one file of volumes.

    Raises:
        UserError: the file is missing, not an npz file or too large, or lacks or misshapes an array.
    """
    stored = _read(path, kind, VOLUMES, "volume")
    arrays = {name: stored[name] for name in VOLUMES[kind] if name in stored}
    problem = _volume_problem(arrays, kind)
    if problem:
        raise UserError(f"{path} is a broken volume: {problem}")
    return Volume(kind, title, arrays, spacing)


def _read(path: Path, kind: str, kinds: Mapping[str, Any], what: str, dtype: Any = None) -> dict[str, NDArray[Any]]:
    """Return all arrays of an npz file, in a type if one is given."""
    if kind not in kinds:
        raise UserError(f"{path} has kind {kind!r} in its record; a {what} is one of {', '.join(kinds)}")
    try:
        content = io.BytesIO(read_bytes(path))
        with zipfile.ZipFile(content) as archive:
            if sum(_unpacked_size(archive, item, dtype) for item in archive.infolist()) > MAX_BYTES:
                raise UserError(f"{path} unpacks to more than {MAX_BYTES // 10**6} MB; it is not a {what} of a run")
        content.seek(0)
        file = np.load(content, allow_pickle=False)
        arrays = {name: np.asarray(file[name], dtype) for name in file.files}
    # zipfile raises NotImplementedError for a compression method that it does not know, RuntimeError for encryption.
    except (*BROKEN, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path} can't be read as a {what}: {error}") from None
    for name, array in arrays.items():
        if array.ndim and not np.isfinite(array).all():
            raise UserError(f"{path} is a broken {what}: {name} has NaN or infinite values")
    return arrays


def _unpacked_size(archive: zipfile.ZipFile, item: zipfile.ZipInfo, dtype: Any) -> int:
    """Return the bytes of an array in memory by its own header, which need not be those of its file.

    Raises:
        ValueError: it is no array of numbers, or not as long as its header says.
    """
    with archive.open(item) as file:
        version = np.lib.format.read_magic(file)
        if version not in HEADERS:
            raise ValueError(f"{item.filename} is of version {version} of the format")
        shape, _, kind = HEADERS[version](file)
        if kind.kind not in "buif":
            raise ValueError(f"{item.filename} is of type {kind}")
        if any(type(size) is not int or size < 0 for size in shape) or len(shape) > MAX_AXES:
            raise ValueError(f"{item.filename} has shape {shape}")
        if item.file_size != file.tell() + prod(shape) * kind.itemsize:
            raise ValueError(f"{item.filename} is not as long as its header says")
        return prod(shape) * max(kind.itemsize, 0 if dtype is None else np.dtype(dtype).itemsize)


def _picture_problem(arrays: Mapping[str, Array], kind: str) -> str | None:
    """Return the first problem of a picture's arrays, or None."""
    missing = [f"{name}_{axis}" for name in PICTURES[kind] for axis in AXES if f"{name}_{axis}" not in arrays]
    if missing:
        return f"it lacks {', '.join(missing)}"
    for name in (*PICTURES[kind], *OPTIONAL_ARRAYS.get(kind, ())):
        there = [f"{name}_{axis}" in arrays for axis in AXES]
        if any(there) and not all(there):
            return f"{name} is missing for some of the three axes"
        for axis in AXES if all(there) else ():
            plane = arrays[f"{name}_{axis}"].shape
            grid = arrays[f"{'moving' if name in OWN_GRID else GRIDS[kind]}_{axis}"].shape
            wanted = (2, *grid) if name == "grid" else grid
            if plane != wanted or len(grid) != 2 or min(grid) < 2:
                return f"{name}_{axis} has shape {plane}, not {wanted}, or is no 2D slice"
    return None


def _volume_problem(arrays: Mapping[str, NDArray[Any]], kind: str) -> str | None:
    """Return the first problem of a volume's arrays, or None."""
    missing = [name for name in VOLUMES[kind] if name not in arrays]
    if missing:
        return f"it lacks {', '.join(missing)}"
    grid = arrays[GRIDS[kind]].shape
    for name, array in arrays.items():
        wanted = (3, *grid) if name == "field" else array.shape if name == "moving" else grid
        if array.shape != wanted or len(grid) != 3 or (name == "moving" and array.ndim != 3) or min(array.shape) < 1:
            return f"{name} has shape {array.shape}"
        if array.dtype.str not in VOLUMES[kind][name]:
            return f"{name} is of type {array.dtype}"
    return None
