"""DICOM segmentations (SEG) as label maps, by highdicom. Files are untrusted."""

import sqlite3
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gvsl.io.dicom_file import parsing, read_whole
from gvsl.io.header_checks import LPS_TO_RAS, checked_affine
from gvsl.io.structures import chosen, combined, placed
from gvsl.io.volume import UnusableFile, Volume, format_sizes


def load_seg(path: Path, grid: Volume, names: Mapping[int, str] | None) -> Volume:
    """Load the segments that `names` lists as a label map on an image's grid.

    Args:
        path: the file.
        grid: the image, whose slices the segmentation may cover in part.
        names: structure's name by label value.

    Raises:
        UnusableFile: the file can't be used, it is not on the grid, or highdicom isn't installed.
    """
    try:
        from highdicom.seg import Segmentation
    except ImportError:
        raise UnusableFile('is a DICOM segmentation, which needs highdicom: pip install "gvsl[dicom]"') from None
    with parsing(path):
        try:
            found = Segmentation.from_dataset(read_whole(path), copy=False)
            if found.segmentation_type.value == "FRACTIONAL":
                raise UnusableFile("is a fractional segmentation, of probabilities; save it as binary")
            numbers = list(found.segment_numbers)
            labels = [found.get_segment_description(one).segment_label for one in numbers]
            values, notes = chosen(labels, names)
            geometry = found.get_volume_geometry()
            if geometry is None:
                raise UnusableFile("its frames form no even grid")
            if prod(geometry.spatial_shape) > grid.array.size:
                claimed = format_sizes(geometry.spatial_shape)
                raise UnusableFile(f"its grid is not that of its image: its frames span {claimed} voxels")
            affine = geometry.affine.astype(np.float64)
            affine[:3] = LPS_TO_RAS @ affine[:3]
            checked_affine(affine)

            def masks() -> Iterator[tuple[int, str, NDArray[np.bool_]]]:
                for index, value in values.items():
                    volume = found.get_volume(segment_numbers=[numbers[index]], dtype=np.uint8)
                    inside = volume.array.reshape(volume.array.shape[:3]) > 0
                    if not inside.any():
                        notes.append(f"{labels[index]!r} is listed without voxels")
                    yield value, names[value] if names else "", placed(Volume(inside, affine), grid)

            return combined(masks(), grid, notes)
        except sqlite3.Error as error:
            raise UnusableFile(f"can't be read as a segmentation ({error})") from None
