"""Label maps from named structures: chosen by name, placed on an image's grid and combined."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gvsl.cases import is_ignored
from gvsl.io.volume import UnusableFile, Volume
from gvsl.text import few

NAMED = 6
"""Maximum number of names in a message."""
ON_GRID = 0.1
"""Maximum distance of a voxel from one of the grid, in voxels."""


def chosen(found: Sequence[str], names: Mapping[int, str] | None) -> tuple[dict[int, int], list[str]]:
    """Choose structures of a file by their names, in any case.

    Args:
        found: names in the file.
        names: structure's name by label value.

    Returns:
        the label value by the structure's index in `found`, and a note if structures are left out.

    Raises:
        UnusableFile: a structure that `names` has is not in the file, or two of its values have one name.
    """
    listed = few([repr(name) for name in found], NAMED)
    if not found:
        raise UnusableFile("holds no structures")
    if not names:
        raise UnusableFile(
            f"holds the structures {listed}; say in labels.json which to take and which value each gets, like "
            f'{{"1": "{found[0]}"}}'
        )
    names = {value: name for value, name in names.items() if value != 0}
    wanted = {name_key(name): value for value, name in names.items()}
    values = {index: wanted[name_key(name)] for index, name in enumerate(found) if name_key(name) in wanted}
    if not values:
        raise UnusableFile(f"holds the structures {listed}, and labels.json names none of them")
    _refuse_missing(found, [name for name in names.values() if not is_ignored(name)], listed)
    others = [repr(name) for index, name in enumerate(found) if index not in values]
    notes = [f"{len(others)} structures that labels.json doesn't name are left out: {few(others, NAMED)}"]
    return values, notes if others else []


def _refuse_missing(found: Sequence[str], wanted: Sequence[str], listed: str) -> None:
    """Refuse a file without one of the wanted structures, which would pass for background, or two of one name."""
    present = {name_key(name) for name in found}
    missing = [repr(name) for name in wanted if name_key(name) not in present]
    if missing:
        raise UnusableFile(
            f"lacks the structures {few(missing, NAMED)}, which labels.json names, and holds {listed}: correct the "
            "names, or list the structures that all have"
        )
    if len({name_key(name) for name in wanted}) < len(wanted):
        raise UnusableFile("has one value for each structure, and labels.json gives two values one name")


def combined(masks: Iterable[tuple[int, str, NDArray[np.bool_]]], grid: Volume, notes: Sequence[str]) -> Volume:
    """Combine masks on a grid into a label map; where two overlap the higher value is taken, with a note.

    Args:
        masks: value, name and mask, (D, H, W), of each structure.
        grid: the image.
        notes: to be kept with the result; `masks` may add to them as it goes.
    """
    label = np.zeros(grid.array.shape, np.int16)
    overlaps = []
    for value, name, mask in masks:
        other = mask & (label != 0) & (label != value)
        if other.any():
            overlaps.append(f"{np.count_nonzero(other)} voxels of {name!r} ({value}) lie in other structures too")
        label[mask & ((label == 0) | (label < value))] = value
    if overlaps:
        overlaps = [f"{few(overlaps, NAMED, '; ')}; the higher value is taken"]
    kind = np.uint8 if label.min() >= 0 and label.max() <= np.iinfo(np.uint8).max else np.int16
    return Volume(label.astype(kind), grid.affine, (*notes, *overlaps))


def placed(mask: Volume, grid: Volume) -> NDArray[np.bool_]:
    """Return a mask on part of a grid as one on all of it, (D, H, W).

    Raises:
        UnusableFile: its voxels are none of the grid's.
    """
    to_grid = np.linalg.inv(grid.affine) @ mask.affine
    turn, shift = np.rint(to_grid[:3, :3]), to_grid[:3, 3]
    ends = np.array(mask.array.shape) - 1
    off = np.abs(to_grid[:3, :3] - turn) @ ends + np.abs(shift - np.rint(shift))
    if np.abs(np.linalg.det(turn)) != 1 or off.max() > ON_GRID:
        raise UnusableFile("its grid is not that of its image: another spacing, direction or position")
    voxels = np.argwhere(mask.array) @ turn.astype(int).T + np.rint(shift).astype(int)
    outside = (voxels < 0).any(axis=1) | (voxels >= grid.array.shape).any(axis=1)
    if outside.any():
        raise UnusableFile(f"{int(outside.sum())} of its {len(voxels)} voxels lie outside its image")
    whole = np.zeros(grid.array.shape, np.bool_)
    whole[tuple(voxels.T)] = True
    return whole


def name_key(name: str) -> str:
    """Return the form in which structures' names are compared."""
    return " ".join(name.split()).casefold()
