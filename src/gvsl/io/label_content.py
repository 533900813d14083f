"""Label maps and probability maps recognised by their voxels, so that none is taken for an image."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gvsl.io.read import VOLUME_SUFFIXES, peek, read_volume
from gvsl.io.volume import UnusableFile, Volume, same_grid

FEW = 16
"""A volume of whole numbers with at most this many values is a label map, whatever their pattern."""
MAX_LABELS = 2048
"""Limit for the values of a label map; atlases have up to a thousand."""
MAX_RANGE = 2**16
MIN_EQUAL = 0.5
"""Minimum fraction of neighbouring voxels, but for the background's, with equal values in a label map of many values.
8-bit images have less than 0.3."""
TOLERANCE = 1e-3
"""Maximum deviation from a whole number; label maps are often saved as rounded floats."""
SAMPLE = 2**16
"""Number of voxels by which most images are told from label maps."""
NEIGHBOURS, READ = 64, 4
"""Number of files near by whose headers are read, and of those on the same grid whose voxels are."""
SURE, MIN_SURE, MIN_ZERO = 0.99, 0.2, 0.3
"""A probability map has many zeros, and many of its other voxels are nearly 1."""


def refuse_label_map(image: Volume, path: Path, doubt: str = "") -> None:
    """Refuse a volume that is a label map or a probability map and no image.

    It is one if its voxels look so, and either its name does too, or an image lies near by on the same grid.

    Args:
        image: as `read_volume` returns it.
        path: its file.
        doubt: `Case.doubt`.

    Raises:
        UnusableFile: it is no image.
    """
    count = count_labels(image.array)
    what = f"a label map by its {count} whole values" if count else ""
    if not count and is_probability(image.array):
        what = "a probability map by its values from 0 to 1"
    if not what:
        return
    if doubt:
        raise UnusableFile(f"is {what} and its name, {doubt}")
    other = next(_images_on_grid(image, path), None)
    if other is not None:
        raise UnusableFile(
            f"is {what}, on the grid of {other.name}; if it is its label map, put it into labels/ under that name, "
            "else take it out"
        )


def count_labels(array: NDArray[Any]) -> int:
    """Return the number of values of what looks like a label map, 0 for anything else.

    A label map has at least two values, all whole, and either few or mostly equal to their neighbours.
    """
    some = array.reshape(-1, order="A")[:: max(1, array.size // SAMPLE)]
    if not _whole(some) or np.unique(np.rint(some)).size > MAX_LABELS:
        return 0
    low, high = float(array.min()), float(array.max())
    if high - low > MAX_RANGE or not all(_whole(array[:, :, index]) for index in range(array.shape[2])):
        return 0
    counts = np.zeros(round(high) - round(low) + 1, np.int64)
    for index in range(array.shape[2]):
        plane = np.rint(array[:, :, index]).astype(np.int64) - round(low)
        counts += np.bincount(plane.ravel(), minlength=counts.size)
    found = int(np.count_nonzero(counts))
    if found < 2 or found > MAX_LABELS:
        return 0
    return found if found <= FEW or _equal_fraction(array, round(low) + int(counts.argmax())) >= MIN_EQUAL else 0


def looks_like_labels(sample: NDArray[Any]) -> bool:
    """Return True if part of a volume holds whole numbers with few or mostly equal values."""
    if not sample.size or not _whole(sample):
        return False
    values, counts = np.unique(np.rint(sample), return_counts=True)
    if values.size <= FEW:
        return True
    return values.size <= MAX_LABELS and _equal_fraction(sample.reshape(-1, 1, 1), values[counts.argmax()]) >= MIN_EQUAL


def is_probability(array: NDArray[Any]) -> bool:
    """Return True if all values are from 0 to 1, with many zeros, and many near 1 among the others."""
    if array.min() < 0 or not SURE < array.max() <= 1:
        return False
    others = int(np.count_nonzero(array > 1 - SURE))
    sure = int(np.count_nonzero(array >= SURE))
    return others <= (1 - MIN_ZERO) * array.size and sure >= MIN_SURE * others


def _whole(array: NDArray[Any]) -> bool:
    if array.dtype.kind in "iub":
        return True
    return bool(np.isfinite(array).all()) and bool((np.abs(array - np.rint(array)) <= TOLERANCE).all())


def _equal_fraction(array: NDArray[Any], background: float) -> float:
    """Return the fraction of neighbouring pairs with equal values among those not both of the background."""
    equal = pairs = 0
    for axis in range(3):
        one, other = (np.moveaxis(array, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
        for first, second in zip(one, other, strict=True):  # plane by plane, to save memory
            counted = (np.rint(first) != background) | (np.rint(second) != background)
            pairs += int(np.count_nonzero(counted))
            equal += int(np.count_nonzero(counted & (np.rint(first) == np.rint(second))))
    return equal / pairs if pairs else 0.0


def _images_on_grid(image: Volume, path: Path) -> Iterator[Path]:
    """Yield the images near a file that lie on its grid and look like images."""
    within_one = bool(image.array.min() >= 0 and image.array.max() <= 1)
    on_grid = (other for other in _near(path) if _has_grid(other, image))
    for number, other in enumerate(on_grid):
        if number >= READ:
            return
        try:
            array = read_volume(other).array
        except UnusableFile:
            continue
        scaled = within_one and not count_labels(image.array) and array.min() >= 0 and array.max() <= 1
        if not count_labels(array) and not scaled:
            yield other


def _near(path: Path) -> list[Path]:
    """List the volume files of a file's folder, of the one above, and those of like name in sibling folders."""
    above = path.absolute().parent.parent
    found = [*_volumes(path.parent), *_volumes(above)]
    try:
        siblings = sorted(folder for folder in above.iterdir() if folder != path.absolute().parent and folder.is_dir())
    except OSError:
        siblings = []
    for folder in siblings[:NEIGHBOURS]:
        found += [other for other in _volumes(folder) if _begin_alike(other.name, path.name)]
    others = [other for other in found if other.name != path.name or other.absolute() != path.absolute()]
    return sorted(others, key=lambda other: (-_shared_start(other.name, path.name), other))[:NEIGHBOURS]


def _volumes(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.name.lower().endswith(VOLUME_SUFFIXES) and path.is_file()]
    except OSError:
        return []


def _begin_alike(one: str, other: str) -> bool:
    """Return True if one file's name, without endings, begins the other's."""
    first, second = (name.partition(".")[0] for name in (one, other))
    return first.startswith(second) or second.startswith(first)


def _shared_start(one: str, other: str) -> int:
    return next((index for index, pair in enumerate(zip(one, other, strict=False)) if len(set(pair)) > 1), len(one))


def _has_grid(path: Path, image: Volume) -> bool:
    try:
        return same_grid(peek(path)[0], image)
    except UnusableFile:
        return False
