"""Reading volumes of every format, recognised by their content and not by their name."""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gvsl.io.binary_maps import load_binary_maps
from gvsl.io.dicom import load_dicom, peek_dicom
from gvsl.io.dicom_file import begins_as_dicom, is_dicom, read_header
from gvsl.io.dicom_rtstruct import load_rtstruct
from gvsl.io.dicom_seg import load_seg
from gvsl.io.header_checks import image_volume as image_volume  # also importable from here
from gvsl.io.header_checks import label_volume
from gvsl.io.metaimage import FIRST_LINE, load_metaimage, metaimage_files, peek_metaimage
from gvsl.io.mgh import MAGIC as MGH_MAGIC
from gvsl.io.mgh import load_mgh
from gvsl.io.nifti import count_axes, load_nifti, nifti_files, peek_nifti, write_nifti, write_nifti_like
from gvsl.io.nrrd import MAGIC, load_nrrd, nrrd_files, peek_nrrd
from gvsl.io.stream import GZIP_MAGIC, wrap_read_errors
from gvsl.io.volume import UnusableFile, Volume
from gvsl.readers import foreign

VOLUME_SUFFIXES = (".nii.gz", ".nii", ".hdr", ".hdr.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh")
"""Suffixes of volumes and of headers with the voxels elsewhere, in lower case."""
LABEL_SUFFIXES = (*VOLUME_SUFFIXES, ".dcm")
"""Suffixes of label maps: volumes, and DICOM segmentations or structure sets."""
COMPANION_SUFFIXES = (".img", ".img.gz", ".raw", ".raw.gz", ".zraw")
"""Suffixes of files with the voxels of a header file."""
HEAD_BYTES = 256


def read_volume(path: Path, parts: Sequence[str] = ()) -> Volume:
    """Read an image as float32 (D, H, W), rescaled as in its header, on its own grid.

    Args:
        path: a NIfTI (also .hdr with .img), NRRD (also .nhdr), MetaImage (.mha, .mhd), MGH (.mgz) or multi-frame DICOM
            file, or the folder of a DICOM series.
        parts: file names of the series relative to the folder, if that holds other files too.

    Raises:
        UnusableFile: the file is unreadable, truncated or damaged, is no 3D scalar volume (4D with a single frame
            is), has NaN or infinite values or one value only, claims more than MAX_VOXELS, or its orientation in the
            patient is missing or contradictory.
    """
    return image_volume(*_load(path, parts, np.float32))


def has_frames(path: Path) -> bool:
    """Return True if a file is NIfTI with more than three axes, by its header."""
    return _format_of(path) == "nifti" and count_axes(path) > 3


def read_frames(path: Path, count: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Read an image with its channels on a fourth axis, (D, H, W, C), and its affine; the voxels are not checked.

    Args:
        path: a NIfTI file.
        count: the number of channels that it must have.

    Raises:
        UnusableFile: as for `read_volume`, or it has another number of channels, or another format.
    """
    if _format_of(path) != "nifti":
        raise UnusableFile("holds one channel, as only NIfTI files can have several here; give each a file of its own")
    return load_nifti(path, np.float32, count)


def read_label(
    path: Path, parts: Sequence[str] = (), image: Volume | None = None, names: Mapping[int, str] | None = None
) -> Volume:
    """Read a label map as uint8, or as int16 if its values need it, (D, H, W).

    A DICOM segmentation or structure set gives a label map on the grid of `image`, of the structures in `names`, and so
    does a folder of binary maps, each named after its structure.

    Args:
        path: as for `read_volume`, or a DICOM segmentation (SEG) or structure set (RTSTRUCT), or a folder of maps.
        parts: as for `read_volume`.
        image: whose label map it is.
        names: structure's name by label value.

    Raises:
        UnusableFile: as for `read_volume`, except that one value only is allowed; or a value is not a whole number
            or doesn't fit int16; or none of the structures of a DICOM file or a folder is named, or they don't fit the
            image.
    """
    load = _structure_loader(path)
    if load is None:
        return label_volume(*_load(path, parts, None))
    if image is None:
        raise UnusableFile("holds structures without a grid of their own; an image is needed to read them")
    return load(path, image, names)


def _structure_loader(path: Path) -> Callable[[Path, Volume, Mapping[int, str] | None], Volume] | None:
    """Return the reader of a DICOM segmentation or structure set, or of a folder of maps; None for others."""
    kind = _format_of(path)
    maps = _one_each(maps_in(path)) if kind == "folder" else {}
    if maps:
        return lambda _, image, names: load_binary_maps(maps, image, names, read_label)
    if kind != "dicom":
        return None
    modality = str(read_header(path, ("Modality",)).get("Modality", "")).upper()
    return {"SEG": load_seg, "RTSTRUCT": load_rtstruct}.get(modality)


def holds_structures(path: Path) -> bool:
    """Return True if a label map is of structures whose values their names decide; UnusableFile as for `read_label`."""
    return _structure_loader(path) is not None


def _one_each(files: Mapping[str, list[Path]]) -> dict[str, Path]:
    """Return the one file of each structure; UnusableFile if there are two."""
    twice = next((paths for paths in files.values() if len(paths) > 1), None)
    if twice is not None:
        raise UnusableFile(f"holds both {twice[0].name} and {twice[1].name} for one structure; remove one of them")
    return {name: path for name, (path,) in files.items()}


def maps_in(folder: Path) -> dict[str, list[Path]]:
    """Return the visible volumes of a folder, which need not exist, by their names without suffix."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        suffix = next((each for each in VOLUME_SUFFIXES if path.name.lower().endswith(each)), None)
        if suffix is not None and not path.name.startswith("."):
            found.setdefault(path.name[: -len(suffix)], []).append(path)
    return found


def peek(path: Path, parts: Sequence[str] = (), count: int = 0) -> tuple[Volume, NDArray[Any]]:
    """Return a volume's grid, as a volume of zeros that takes no memory, and about `count` voxels of its middle.

    Of a DICOM series no voxel is read. The arguments and errors are those of `read_volume`.
    """
    kind = _format_of(path)
    sample: NDArray[Any] = np.zeros(0)
    if kind in ("folder", "dicom"):
        files = [path / part for part in parts] or (_dicom_files(path) if kind == "folder" else [path])
        shape, affine = peek_dicom(files)
    elif kind == "mgh":
        sample, affine = load_mgh(path)
        shape = (sample.shape[0], sample.shape[1], sample.shape[2])
    else:
        shape, affine, sample = {"nrrd": peek_nrrd, "metaimage": peek_metaimage, "nifti": peek_nifti}[kind](path, count)
    return Volume(np.broadcast_to(np.uint8(0), shape), affine), sample


def files_of(path: Path, parts: Sequence[str] = ()) -> list[Path]:
    """Return all files that a volume is read from: its own, that of a header's voxels, the slices of a series.

    The arguments and errors are those of `read_volume`.
    """
    kind = _format_of(path)
    if kind == "folder":
        return [path / part for part in sorted(parts)] or _dicom_files(path)
    listed = {"nrrd": nrrd_files, "metaimage": metaimage_files, "nifti": nifti_files}
    if kind not in listed:
        return [path]
    with _naming_formats():
        return listed[kind](path)


def declared_modality(path: Path, parts: Sequence[str] = ()) -> str:
    """Return the modality that a DICOM file or series declares, such as CT or MR; empty if there is none.

    The arguments and errors are those of `read_volume`.
    """
    kind = _format_of(path)
    if kind not in ("folder", "dicom"):
        return ""
    files = [path / part for part in parts] or (_dicom_files(path) if kind == "folder" else [path])
    return str(read_header(files[0], ("Modality",)).get("Modality", "")).upper() if files else ""


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
    if kind == "mgh":
        return load_mgh(path)
    with _naming_formats():
        return load_nifti(path, scaled)


@contextmanager
def _naming_formats() -> Iterator[None]:
    """Let the message on a file of no format name them all."""
    try:
        yield
    except UnusableFile as error:
        if str(error) != "is not a NIfTI file":
            raise
        raise UnusableFile("is not NIfTI, NRRD, MetaImage, MGH or DICOM") from None


def _format_of(path: Path) -> str:
    """Return "folder", or by the first bytes "nrrd", "dicom", "mgh" or "metaimage", else "nifti"."""
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
    if _plain(head).startswith(MGH_MAGIC):
        return "mgh"
    return "metaimage" if FIRST_LINE.match(head) else "nifti"


def _plain(head: bytes) -> bytes:
    """Return the first bytes of a file, decompressed if it is gzipped."""
    if not head.startswith(GZIP_MAGIC):
        return head
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, len(MGH_MAGIC))
    except zlib.error:  # reported in more detail when the file is read
        return b""


def _dicom_files(folder: Path) -> list[Path]:
    """List the DICOM files in a folder and below, without its table of contents."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name.upper() != "DICOMDIR")
    return [path for path in files if is_dicom(path)]
