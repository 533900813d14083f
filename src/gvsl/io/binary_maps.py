"""Binary maps of one image, a file per structure, as a label map. Files are untrusted."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gvsl.io.structures import chosen, combined
from gvsl.io.volume import UnusableFile, Volume, refuse_other_grid


def load_binary_maps(
    files: Mapping[str, Path], grid: Volume, names: Mapping[int, str] | None, read: Callable[[Path], Volume]
) -> Volume:
    """Load the maps that `names` lists as one label map; where two overlap the higher value is taken, with a note.

    One map is in memory at a time.

    Args:
        files: by the structure's name.
        grid: the image.
        names: structure's name by label value.
        read: reads a map.

    Raises:
        UnusableFile: none is named, or a map can't be read, is on another grid, or has more than one value above 0.
    """
    values, notes = chosen(list(files), names)
    paths = list(files.values())

    def masks() -> Iterator[tuple[int, str, NDArray[np.bool_]]]:
        for index, value in values.items():
            try:
                mask = _mask(read(paths[index]), grid)
            except UnusableFile as error:
                raise UnusableFile(f"its map {paths[index].name} {error}") from None
            if mask is not None:
                yield value, names[value] if names else "", mask

    return combined(masks(), grid, notes)


def _mask(found: Volume, grid: Volume) -> NDArray[np.bool_] | None:
    """Return where a map is not 0; None if that is nowhere."""
    refuse_other_grid(found, grid)
    mask: NDArray[np.bool_] = found.array != 0
    inside = found.array[mask]
    if not inside.size:
        return None
    if (inside != inside[0]).any():
        raise UnusableFile("has more than one value beside 0; the map of one structure has one")
    return mask
