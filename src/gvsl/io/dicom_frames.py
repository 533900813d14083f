"""Multi-frame (enhanced) CT and MR: the slices of a volume in one DICOM file. Files are untrusted."""

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset

from gvsl.io.dicom_file import number_of, parsing, read_whole, whole_number_of
from gvsl.io.dicom_grid import checked_slice, sorted_slices, stored_type, without_spare_bits
from gvsl.io.header_checks import checked_shape, refuse_short, refuse_wrapped
from gvsl.io.volume import UnusableFile

MAX_FRAMES = 2**16
GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
}
"""The functional group that holds each element, for one frame or for all."""
RESCALING = ("RescaleSlope", "RescaleIntercept")
"""Those that a file without functional groups for them has for itself."""


def load_frames(path: Path, named: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Load the rescaled voxels of a multi-frame file, (D, H, W), and the RAS+ affine in millimetres.

    Frames are sorted by their position, whatever order they are stored in.

    Args:
        path: the file.
        named: the series, for messages.

    Raises:
        UnusableFile: its frames have no positions, are phases or echoes, or don't lie on one even grid.
    """
    with parsing(path):
        dataset = read_whole(path)
        frames = whole_number_of(dataset, "NumberOfFrames")
        rows, columns = whole_number_of(dataset, "Rows"), whole_number_of(dataset, "Columns")
        shape = checked_shape((columns, rows, frames))
        groups = list(dataset.get("PerFrameFunctionalGroupsSequence") or ())
        if len(groups) != frames or frames > MAX_FRAMES:
            raise UnusableFile(
                f"is one file of {frames} frames, of which {len(groups)} have a position ({named}); convert it to "
                "single slices or NIfTI first"
            )
        shared = (list(dataset.get("SharedFunctionalGroupsSequence") or ()) or [Dataset()])[0]
        each = [_flat(group, shared, dataset) for group in groups]
        slices = [checked_slice(path, item, rows, columns, named, index) for index, item in enumerate(each)]
        ordered, affine = sorted_slices(slices)
        stored, dtype = _stored(dataset, (frames, rows, columns))
        array = np.empty(shape, np.float32, order="F")
        for index, item in enumerate(ordered):
            group = each[item.frame]
            slope, intercept = number_of(group, "RescaleSlope", 1.0), number_of(group, "RescaleIntercept", 0.0)
            rescaled = (stored[item.frame].T * np.float64(slope) + intercept).astype(np.float32)
            refuse_wrapped(rescaled, dtype, slope, intercept)
            array[:, :, index] = rescaled
    return array, affine


def _flat(group: Dataset, shared: Dataset, whole: Dataset) -> Any:
    """Return the elements of GROUPS of one frame, from its own functional groups or else the shared ones.

    Those of RESCALING may be the whole file's instead.
    """
    found = Dataset()
    for name, sequence in GROUPS.items():
        items = [*(group.get(sequence) or ()), *(shared.get(sequence) or ()), *([whole] if name in RESCALING else [])]
        value = next((item.get(name) for item in items if item.get(name) not in (None, "")), None)
        if value is not None:
            setattr(found, name, value)
    return found


def _stored(dataset: FileDataset, shape: tuple[int, int, int]) -> tuple[NDArray[Any], np.dtype[Any]]:
    """Return the stored values, (frames, rows, columns), with the unused bits cleared, and their type in the file."""
    if "PixelData" not in dataset:
        raise UnusableFile("holds no pixel data")
    dtype, spare = stored_type(dataset)
    wanted = prod(shape) * dtype.itemsize
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return _decompressed(dataset, shape), dtype
    held = memoryview(dataset.PixelData)
    refuse_short(shape, wanted, len(held))
    if len(held) > wanted + 1:  # padded to an even count
        raise UnusableFile(
            f"holds {len(held)} bytes of voxels where its header claims {wanted}; is NumberOfFrames right?"
        )
    return without_spare_bits(np.frombuffer(held, dtype, prod(shape)), spare).reshape(shape), dtype


def _decompressed(dataset: FileDataset, shape: tuple[int, int, int]) -> NDArray[Any]:
    from pydicom.pixels.utils import pixel_array  # looks for decoders, and is needed for these files only

    try:
        found = pixel_array(dataset, raw=True)
    except (RuntimeError, ValueError, AttributeError) as error:
        why = " ".join(str(error).split())[:120]
        raise UnusableFile(f"its frames can't be decompressed ({why}); decompress it by gdcmconv --raw first") from None
    if found.shape != shape:
        raise UnusableFile("its frames decompress to another size")
    values: NDArray[Any] = found
    return values
