"""One way in for every format: told apart by what a file is, not by what it is called."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gvsl.io.dicom import begins_as_dicom, is_dicom, load_dicom
from gvsl.io.header_checks import image_volume, label_volume
from gvsl.io.metaimage import FIRST_LINE, load_metaimage
from gvsl.io.nifti import load_nifti, write_nifti, write_nifti_like
from gvsl.io.nrrd import MAGIC, load_nrrd
from gvsl.io.stream import readable
from gvsl.io.volume import UnusableFile, Volume

VOLUME_SUFFIXES = (".nii.gz", ".nii", ".hdr", ".hdr.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
"""What the names of files that hold a volume, or say where it lies, end in; in small letters."""
COMPANION_SUFFIXES = (".img", ".img.gz", ".raw", ".raw.gz", ".zraw")
"""Those of files that hold the voxels of another."""
HEAD_BYTES = 256


def read_volume(path: Path, parts: Sequence[str] = ()) -> Volume:
    """Read an image as float32 (D, H, W), rescaled as its file says, on the grid that the file has.

    Args:
        path: a file of NIfTI (also .hdr beside .img), NRRD (also .nhdr) or MetaImage (.mha, .mhd), or a folder that
            holds one DICOM series.
        parts: the files of the series, relative to the folder, where it holds others too.

    Raises:
        UnusableFile: the file is unreadable, truncated or damaged, is no 3D scalar volume (a single frame of 4D is
            one), holds NaN or infinite values or one value only, claims more than MAX_VOXELS, or doesn't say how it
            lies in the patient, or contradicts itself there.
    """
    return image_volume(*_load(path, parts, np.float32))


def read_label(path: Path, parts: Sequence[str] = ()) -> Volume:
    """Read a label map as uint8, or int16 where its values need it, (D, H, W).

    Args:
        path: as for `read_volume`.
        parts: as for `read_volume`.

    Raises:
        UnusableFile: as `read_volume` (but one value only is allowed), or values that are not whole numbers or
            don't fit int16.
    """
    return label_volume(*_load(path, parts, None))


def write_like(path: Path, array: NDArray[Any], like: Path, affine: NDArray[np.float64]) -> None:
    """Write voxels on the grid of a volume's file as NIfTI, over what is there.

    If `like` is NIfTI the result has its header, bit for bit where it says the place; of another format the affine.

    Args:
        path: gzipped if its name ends in .gz.
        array: (D, H, W).
        like: what `read_volume` read.
        affine: what `read_volume` gave of it.

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
        raise UnusableFile("is neither NIfTI nor NRRD, MetaImage or DICOM") from None


def _format_of(path: Path) -> str:
    """What a path holds by its first bytes: a folder, nrrd, dicom or metaimage; nifti if it is none of these."""
    with readable("a volume"):
        if path.is_dir():
            return "folder"
        if path.exists() and not path.is_file():  # a pipe would never end
            raise UnusableFile("is neither a file nor a folder")
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    if not head:
        raise UnusableFile("is empty")
    if head.startswith(MAGIC):
        return "nrrd"
    if begins_as_dicom(head):
        return "dicom"
    return "metaimage" if FIRST_LINE.match(head) else "nifti"


def _dicom_files(folder: Path) -> list[Path]:
    """The DICOM files in a folder and below it, but for its table of contents."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name.upper() != "DICOMDIR")
    return [path for path in files if is_dicom(path)]
