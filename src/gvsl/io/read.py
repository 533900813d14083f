"""Reading volumes of every format, recognised by their content and not by their name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gvsl.io.dicom import load_dicom
from gvsl.io.dicom_file import begins_as_dicom, is_dicom
from gvsl.io.header_checks import image_volume, label_volume
from gvsl.io.metaimage import FIRST_LINE, load_metaimage
from gvsl.io.nifti import load_nifti, write_nifti, write_nifti_like
from gvsl.io.nrrd import MAGIC, load_nrrd
from gvsl.io.stream import wrap_read_errors
from gvsl.io.volume import UnusableFile, Volume
from gvsl.readers import foreign

VOLUME_SUFFIXES = (".nii.gz", ".nii", ".hdr", ".hdr.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
"""Suffixes of volumes and of headers with the voxels elsewhere, in lower case."""
COMPANION_SUFFIXES = (".img", ".img.gz", ".raw", ".raw.gz", ".zraw")
"""Suffixes of files with the voxels of a header file."""
HEAD_BYTES = 256


def read_volume(path: Path, parts: Sequence[str] = ()) -> Volume:
    """Read an image as float32 (D, H, W), rescaled as in its header, on its own grid.

    Args:
        path: a NIfTI (also .hdr with .img), NRRD (also .nhdr) or MetaImage (.mha, .mhd) file, or the folder of a
            DICOM series.
        parts: file names of the series relative to the folder, if that holds other files too.

    Raises:
        UnusableFile: the file is unreadable, truncated or damaged, is no 3D scalar volume (4D with a single frame
            is), has NaN or infinite values or one value only, claims more than MAX_VOXELS, or its orientation in the
            patient is missing or contradictory.
    """
    return image_volume(*_load(path, parts, np.float32))


def read_label(path: Path, parts: Sequence[str] = ()) -> Volume:
    """Read a label map as uint8, or as int16 if its values need it, (D, H, W).

    Args:
        path: as for `read_volume`.
        parts: as for `read_volume`.

    Raises:
        UnusableFile: as for `read_volume`, except that one value only is allowed; or a value is not a whole number
            or doesn't fit int16.
    """
    return label_volume(*_load(path, parts, None))


def write_like(path: Path, array: NDArray[Any], like: Path, affine: NDArray[np.float64]) -> None:
    """Write voxels as NIfTI on the grid of the volume `like`; an existing file is replaced.

    If `like` is NIfTI, its geometry is copied bit for bit; else the result has `affine`.

    Args:
        path: gzipped if its name ends in .gz.
        array: (D, H, W).
        like: a path for `read_volume`.
        affine: of the volume that `read_volume` returned.

    Raises:
        UnusableFile: `like` can't be read.
    """
    if _format_of(like) == "nifti":
        write_nifti_like(path, array, like)
    else:
        write_nifti(path, Volume(array, affine))


def _load(
    path: Path, parts: Sequence[str], scaled: type[np.float32] | None
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    kind = _format_of(path)
    if kind == "folder":
        return load_dicom([path / part for part in parts] if parts else _dicom_files(path))
    if kind == "nrrd":
        return load_nrrd(path)
    if kind == "dicom":
        return load_dicom([path])
    if kind == "metaimage":
        return load_metaimage(path)
    try:
        return load_nifti(path, scaled)
    except UnusableFile as error:
        if str(error) != "is not a NIfTI file":
            raise
        raise UnusableFile("is not NIfTI, NRRD, MetaImage or DICOM") from None


def _format_of(path: Path) -> str:
    """Return "folder", or by the first bytes "nrrd", "dicom" or "metaimage", else "nifti"."""
    with wrap_read_errors("a volume"):
        if path.is_dir():
            return "folder"
        if path.exists() and not path.is_file():  # reading a pipe would not end
            raise UnusableFile("is neither a file nor a folder")
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    if not head:
        raise UnusableFile("is empty")
    found = foreign(head)
    if found:
        raise UnusableFile(found)
    if head.startswith(MAGIC):
        return "nrrd"
    if begins_as_dicom(head):
        return "dicom"
    return "metaimage" if FIRST_LINE.match(head) else "nifti"


def _dicom_files(folder: Path) -> list[Path]:
    """List the DICOM files in a folder and below, without its table of contents."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name.upper() != "DICOMDIR")
    return [path for path in files if is_dicom(path)]
