"""DICOM structure sets (RTSTRUCT) as label maps: contours filled on the slices of an image. Files are untrusted."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gvsl.io.dicom_file import parsing, read_whole
from gvsl.io.header_checks import LPS_TO_RAS
from gvsl.io.structures import chosen, combined
from gvsl.io.volume import UnusableFile, Volume

MAX_OFF_SLICE = 0.25
"""Maximum distance of a contour from its slice, as a fraction of the slice distance."""
MIN_POINTS = 3


def load_rtstruct(path: Path, grid: Volume, names: Mapping[int, str] | None) -> Volume:
    """Fill the closed contours of the structures that `names` lists, as a label map on an image's grid.

    A voxel belongs to a structure if its centre lies inside an odd number of its contours, so that holes stay open.

    Args:
        path: the file.
        grid: the image on which the structures were drawn.
        names: structure's name by label value.

    Raises:
        UnusableFile: the file can't be used, or its contours are not on the slices of the image.
    """
    with parsing(path):
        dataset = read_whole(path)
        labelled = {int(item.ROINumber): str(item.ROIName) for item in dataset.get("StructureSetROISequence") or ()}
        drawn: dict[int, list[NDArray[np.float64]]] = {number: [] for number in labelled}
        for item in dataset.get("ROIContourSequence") or ():
            drawn.setdefault(int(item.ReferencedROINumber), []).extend(_contours(item))
        numbers = list(labelled)
        values, notes = chosen(list(labelled.values()), names)
        to_voxels = np.linalg.inv(grid.affine).astype(np.float64)

        def masks() -> Iterator[tuple[int, str, NDArray[np.bool_]]]:
            for index, value in values.items():
                number = numbers[index]
                if not drawn[number]:
                    notes.append(f"{labelled[number]!r} is listed without closed contours, and so has no voxels")
                mask, gaps = _filled(drawn[number], to_voxels, grid.array.shape, labelled[number])
                if gaps:
                    notes.append(f"{labelled[number]!r} has no contour on {gaps} slices between its first and last")
                yield value, labelled[number], mask

        return combined(masks(), grid, notes)


def _contours(item: Any) -> Iterator[NDArray[np.float64]]:
    """Yield the closed contours of one structure, (N, 3), in RAS millimetres."""
    for contour in item.get("ContourSequence") or ():
        if not str(contour.get("ContourGeometricType", "")).upper().startswith("CLOSED"):
            continue  # points and open lines enclose nothing
        numbers = np.array([float(number) for number in contour.ContourData])
        if numbers.size % 3 or not np.isfinite(numbers).all():
            raise UnusableFile("has a contour whose points are not three finite numbers each")
        if numbers.size >= 3 * MIN_POINTS:
            yield numbers.reshape(-1, 3) @ LPS_TO_RAS.T


def _filled(
    contours: list[NDArray[np.float64]], to_voxels: NDArray[np.float64], shape: tuple[int, ...], name: str
) -> tuple[NDArray[np.bool_], int]:
    """Return the mask of one structure, and the number of slices without a contour between its first and last."""
    mask = np.zeros(shape, np.bool_)
    if not contours:
        return mask, 0
    points = [contour @ to_voxels[:3, :3].T + to_voxels[:3, 3] for contour in contours]
    spans = np.max([np.ptp(each, axis=0) for each in points], axis=0)
    axis = int(spans.argmin())
    if spans[axis] > MAX_OFF_SLICE:
        raise UnusableFile(f"its structure {name!r} has contours that are not parallel to the slices of its image")
    heights = np.array([each[:, axis].mean() for each in points])
    if np.abs(heights - np.rint(heights)).max() > MAX_OFF_SLICE:
        raise UnusableFile(f"its structure {name!r} has contours between the slices of its image: it is another's")
    slices = np.rint(heights).astype(int)
    outside = np.count_nonzero((slices < 0) | (slices >= shape[axis]))
    if outside:
        raise UnusableFile(f"{outside} of the {len(points)} contours of its structure {name!r} lie outside its image")
    for each, index in zip(points, slices, strict=True):
        plane = mask[(slice(None),) * axis + (int(index),)]  # a view
        plane ^= _inside(np.delete(each, axis, axis=1), plane.shape)
    used = np.unique(slices)
    return mask, int(used[-1] - used[0] + 1 - used.size)


def _inside(polygon: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the pixels, (h, w), whose centres lie inside a polygon, (N, 2), by the even-odd rule."""
    inside = np.zeros(shape, np.bool_)
    if polygon[:, 0].max() < 0 or polygon[:, 0].min() > shape[0] - 1:
        return inside
    columns = np.arange(shape[1])
    first = max(int(np.ceil(polygon[:, 0].min())), 0)
    last = min(int(np.floor(polygon[:, 0].max())), shape[0] - 1)
    start, end = polygon, np.roll(polygon, -1, axis=0)
    for row in range(first, last + 1):
        crosses = (start[:, 0] <= row) != (end[:, 0] <= row)
        one, other = start[crosses], end[crosses]
        at = one[:, 1] + (row - one[:, 0]) * (other[:, 1] - one[:, 1]) / (other[:, 0] - one[:, 0])
        inside[row] = (np.searchsorted(np.sort(at), columns, side="left") % 2).astype(np.bool_)
    return inside
