"""DICOM series: one volume from slices on an even grid, with an error that names the reason if there is none."""

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from gvsl.io.dicom_file import number_of, parsing, read_header, read_whole, values_of, whole_number_of
from gvsl.io.dicom_frames import load_frames
from gvsl.io.dicom_grid import GEOMETRY, Slice, checked_slice, sorted_slices, stored_type, without_spare_bits
from gvsl.io.dicom_series import not_an_image
from gvsl.io.header_checks import checked_shape, refuse_short, refuse_wrapped
from gvsl.io.stream import DEFLATE_RATIO, wrap_read_errors
from gvsl.io.volume import UnusableFile, format_sizes

USED = (
    "SOPClassUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "Modality",
    "ImageType",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "ModalityLUTSequence",
    *GEOMETRY,
)
"""Elements that are read of every file before any voxel."""
NO_IMAGES = {"SEG": "a segmentation (SEG), a label map for labels/", "RTDOSE": "a map of the radiation dose"}
"""Kinds of volumes that are no images, by modality."""


def load_dicom(files: Sequence[Path]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Load the rescaled voxels of one series, (D, H, W), and the RAS+ affine in millimetres.

    The axes are the image's columns, rows and slices. Slices are sorted by position; instance numbers are ignored.

    Raises:
        UnusableFile: the files are not exactly one series, have no voxels, or don't lie on one even grid.
    """
    with wrap_read_errors("DICOM"), parsing():
        headers = _headers(files)
        if len(headers) == 1 and whole_number_of(headers[0][1], "NumberOfFrames", 1) > 1:
            return load_frames(headers[0][0], _series_name(headers[0][1]))
        slices, affine = sorted_slices(_slices(headers))
        shape = checked_shape((slices[0].columns, slices[0].rows, len(slices)))
        refuse_short(shape, prod(shape), DEFLATE_RATIO * sum(item.path.stat().st_size for item in slices))
        array = np.empty(shape, np.float32, order="F")
        for index, item in enumerate(slices):
            array[:, :, index] = _values(item)
    return array, affine


def peek_dicom(files: Sequence[Path]) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Return shape and RAS+ affine of a series without reading voxels; UnusableFile as for `load_dicom`."""
    with wrap_read_errors("DICOM"), parsing():
        headers = _headers(files)
        if len(headers) == 1 and whole_number_of(headers[0][1], "NumberOfFrames", 1) > 1:
            array, affine = load_frames(headers[0][0], _series_name(headers[0][1]))
            return checked_shape(array.shape), affine
        slices, affine = sorted_slices(_slices(headers))
        return checked_shape((slices[0].columns, slices[0].rows, len(slices))), affine


def _headers(files: Sequence[Path]) -> list[tuple[Path, FileDataset]]:
    """Read every file's header, and check that the files are one series of images, but for what is no image."""
    everything = [(path, read_header(path, USED)) for path in files]
    headers = [item for item in everything if not not_an_image(item[1])] or everything
    uids = sorted({str(header.get("SeriesInstanceUID", "")) for _, header in headers})
    if not headers:
        raise UnusableFile("holds no DICOM file")
    if len(uids) > 1:
        raise UnusableFile(f"holds {len(uids)} DICOM series; name the folder of one")
    if uids == [""]:
        raise UnusableFile(f"its {len(headers)} files have no SeriesInstanceUID")
    named = _series_name(headers[0][1])
    for _, header in headers:
        _refuse_kind(header, named)
    return headers


def _slices(headers: Sequence[tuple[Path, FileDataset]]) -> list[Slice]:
    """Return every file's geometry."""
    named = _series_name(headers[0][1])
    several = sum(whole_number_of(header, "NumberOfFrames", 1) > 1 for _, header in headers)
    if several:
        raise UnusableFile(f"holds {several} files of several frames each ({named}); put each into a folder of its own")
    if len(headers) == 1:
        raise UnusableFile(f"is a single slice ({named}); a volume is needed")
    sizes = sorted({(whole_number_of(header, "Columns"), whole_number_of(header, "Rows")) for _, header in headers})
    if len(sizes) > 1:
        listed = " and ".join(format_sizes(size) for size in sizes[:2])
        raise UnusableFile(f"its slices have different sizes: {listed} ({named})")
    return [
        checked_slice(path, header, whole_number_of(header, "Rows"), whole_number_of(header, "Columns"), named)
        for path, header in headers
    ]


def _refuse_kind(header: FileDataset, named: str) -> None:
    """Refuse what is no slice of a volume."""
    kinds = [str(kind).upper() for kind in values_of(header, "ImageType")]
    if "LOCALIZER" in kinds or "SCOUT" in kinds:
        raise UnusableFile(f"is a localiser, not a volume ({named})")
    modality = str(header.get("Modality", "")).upper()
    if modality in NO_IMAGES and "Rows" in header:
        raise UnusableFile(f"is {NO_IMAGES[modality]}, not an image ({named})")
    if "MOSAIC" in kinds:
        raise UnusableFile(
            f"is a mosaic, with all slices of a volume as tiles of one picture ({named}); convert it to NIfTI by "
            "dcm2niix first"
        )
    if "Rows" not in header or "Columns" not in header:
        raise UnusableFile(f"holds no pixel data: it is {header.get('Modality', 'of no modality')} ({named})")
    if whole_number_of(header, "SamplesPerPixel", 1) != 1:
        raise UnusableFile(f"holds colour, not one number per voxel ({named})")
    photometric = str(header.get("PhotometricInterpretation", "MONOCHROME2")).upper()
    if photometric != "MONOCHROME2":
        raise UnusableFile(f"its values are {photometric}, not MONOCHROME2 ({named})")
    if "ModalityLUTSequence" in header:
        raise UnusableFile(f"its values need a lookup table (ModalityLUTSequence), not slope and intercept ({named})")


def _values(item: Slice) -> NDArray[np.float32]:
    """Return the rescaled values of one slice, (columns, rows)."""
    with parsing(item.path):
        dataset = read_whole(item.path)
        if "PixelData" not in dataset:
            raise UnusableFile(f"holds no pixel data in {item.path.name}")
        slope, intercept = number_of(dataset, "RescaleSlope", 1.0), number_of(dataset, "RescaleIntercept", 0.0)
        if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            rescaled, (dtype, _) = _decoded(item), stored_type(dataset)
        else:
            values, dtype = _stored(dataset, item)
            rescaled = (values * np.float64(slope) + intercept).astype(np.float32)  # rounded once, as in other formats
        refuse_wrapped(rescaled, dtype, slope, intercept)
    return rescaled


def _stored(dataset: FileDataset, item: Slice) -> tuple[NDArray[Any], np.dtype[Any]]:
    """Return the stored values, with the unused bits cleared, and their type in the file."""
    dtype, spare = stored_type(dataset)
    wanted = item.rows * item.columns * dtype.itemsize
    held = bytes(dataset.PixelData)
    if not wanted <= len(held) <= wanted + 1:  # padded to an even count
        raise UnusableFile(f"{item.path.name} holds {len(held)} of {wanted} bytes of voxels")
    values = without_spare_bits(np.frombuffer(held, dtype, item.rows * item.columns), spare)
    return values.reshape(item.rows, item.columns).T, dtype


def _decoded(item: Slice) -> NDArray[np.float32]:
    """Return the rescaled values of a compressed slice, (columns, rows)."""
    try:
        import SimpleITK as sitk  # noqa: N813 - its usual name; large, and needed for these files only
    except ImportError:
        need = 'is compressed, which needs SimpleITK: pip install "gvsl[dicom]"'
        raise UnusableFile(f"{item.path.name} {need}") from None
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(item.path))
    try:
        reader.ReadImageInformation()
        size = reader.GetSize()  # of the compressed image itself, which decides how much memory it takes
        if size != (item.columns, item.rows, 1):
            raise UnusableFile(f"{item.path.name} decompresses to {format_sizes(size[::-1])} values")
        image = reader.Execute()
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        why = lines[-1][:200] if lines else type(error).__name__
        raise UnusableFile(f"{item.path.name} can't be decompressed ({why})") from None
    decoded: NDArray[np.float32] = sitk.GetArrayViewFromImage(image)[0].T.astype(np.float32)
    return decoded


def _series_name(header: FileDataset) -> str:
    """Name a series as a scanner's console does, by number and description."""
    number, text = header.get("SeriesNumber"), " ".join(str(header.get("SeriesDescription") or "").split())[:200]
    return f"series {number if number is not None else '?'}" + (f", {text!r}" if text else "")
