"""NIfTI files: read with every check that a hostile file needs, written whole or not at all."""

import logging
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.fileholders import FileHolder
from nibabel.imageglobals import logger
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from gvsl.files import whole_file
from gvsl.io.header_checks import (
    SAME_SPACING,
    checked_affine,
    checked_shape,
    image_volume,
    label_volume,
    refuse_short,
    refuse_wrapped,
)
from gvsl.io.stream import BROKEN, DEFLATE_RATIO, one_line, readable, refuse_rest, unfolded
from gvsl.io.volume import UnusableFile, Volume

GZIP_MAGIC = b"\x1f\x8b"
HEADER_BYTES = 540
"""Of NIfTI-2; NIfTI-1 has 348."""
MAX_OFFSET = 2**26
"""The most bytes that a header and its extensions may take before the voxels."""
MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
SAME_DIRECTION = 0.7
"""The cosine from which on sform and qform, which may differ by a registration, point an axis to the same side."""
NIFTI_BROKEN = (*BROKEN, struct.error, ImageFileError, HeaderDataError, WrapStructError)
"""What nibabel and the decompressor raise on files that are not what they say."""


def read_nifti(path: Path) -> Volume:
    """Read an image as float32 (D, H, W), rescaled as its header says, on the grid that the file has.

    Raises:
        UnusableFile: the file is unreadable, truncated or damaged, is no 3D scalar volume (a single frame of
            4D is one), holds NaN or infinite values or one value only, claims more than MAX_VOXELS, or has no
            usable affine.
    """
    return image_volume(*load_nifti(path, np.float32))


def read_nifti_label(path: Path) -> Volume:
    """Read a label map as uint8, or int16 where its values need it, (D, H, W).

    Raises:
        UnusableFile: as `read_nifti` (but one value only is allowed), or values that are not whole numbers or
            don't fit int16.
    """
    return label_volume(*load_nifti(path, None))


def write_nifti(path: Path, volume: Volume) -> None:
    """Write a volume as NIfTI-1 in millimetres, gzipped if the name ends in .gz, over what is there."""
    image = nibabel.Nifti1Image(volume.array, volume.affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.affine, code="scanner")
    image.set_qform(volume.affine, code="scanner")
    with whole_file(path) as temporary:
        nibabel.save(image, temporary)


def write_nifti_like(path: Path, array: NDArray[Any], like: Path) -> None:
    """Write voxels on the grid of a NIfTI file and with its header, over what is there.

    Affines, their codes, units and spacing stay bit for bit; type, shape and rescaling are those of the voxels,
    (D, H, W). Gzipped if the name ends in .gz.

    Raises:
        UnusableFile: `like` can't be read as NIfTI.
    """
    try:
        with _open(like) as (stream, _), _quiet():
            kind = _image_class(stream)
            header = kind.header_class.from_fileobj(stream)
    except NIFTI_BROKEN as error:
        raise UnusableFile(f"can't be read as NIfTI ({one_line(error)})") from None
    header.set_data_shape(array.shape)
    header.set_data_dtype(array.dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    with whole_file(path) as temporary:
        nibabel.save(kind(array, None, header), temporary)


def load_nifti(path: Path, scaled: type[np.float32] | None) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The voxels, (D, H, W), and the affine in millimetres, of one file or of an .hdr and .img pair.

    The voxels are rescaled as the header says, to `scaled`; without it, to the type that rescaling needs, or
    to the file's own where there is nothing to rescale.

    Raises:
        UnusableFile: the file can't be used.
    """
    with readable("NIfTI"):
        try:
            with _opened(path) as (image, stream, voxels, compressed):
                shape = _checked_shape(image, voxels, compressed)
                affine = _checked_affine(image)
                array = np.asanyarray(image.dataobj, dtype=scaled)
                if compressed:
                    refuse_rest(stream)
                else:
                    array = np.array(array)  # a copy of what may be mapped to the file that closes now
                slope, intercept = image.dataobj.slope, image.dataobj.inter
        except (struct.error, ImageFileError, HeaderDataError, WrapStructError, OSError) as error:
            short = re.search(r"Expected (\d+) bytes, got (\d+) bytes", str(error))
            if short:
                raise UnusableFile(f"is truncated: it holds {short[2]} of {short[1]} bytes of voxels") from None
            if isinstance(error, OSError):
                raise
            raise UnusableFile(f"can't be read as NIfTI ({one_line(error)})") from None
    if scaled is not None:
        refuse_wrapped(array, image.header.get_data_dtype(), float(slope), float(intercept))
    return array.reshape(shape), affine


@contextmanager
def _opened(path: Path) -> Iterator[tuple[nibabel.Nifti1Pair, IO[bytes], Path, bool]]:
    """The image with nothing read but its header, the file of its voxels, opened, and whether that is compressed."""
    with ExitStack() as stack:
        stream, compressed = stack.enter_context(_open(path))
        stack.enter_context(_quiet())
        stack.enter_context(np.errstate(all="ignore"))
        kind = _image_class(stream)
        voxels = path
        holders = {"header": FileHolder(fileobj=stream), "image": FileHolder(fileobj=stream)}
        if not issubclass(kind, nibabel.Nifti1Image):
            voxels = _voxels_of(path)
            stream, compressed = stack.enter_context(_open(voxels))
            holders["image"] = FileHolder(fileobj=stream)
        yield kind.from_file_map(holders), stream, voxels, compressed


@contextmanager
def _open(path: Path) -> Iterator[tuple[IO[bytes], bool]]:
    """Open by what the file is, not by what it is called, and say whether it is compressed."""
    with path.open("rb") as raw:
        zipped = raw.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        raw.seek(0)
        with unfolded(raw, "gzip" if zipped else "raw") as stream:
            yield stream, zipped


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep nibabel's remarks on odd headers off the screen: what matters of them is checked here."""
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _image_class(stream: IO[bytes]) -> type[nibabel.Nifti1Pair]:
    header = stream.read(HEADER_BYTES)
    stream.seek(0)
    if not header:
        raise UnusableFile("is empty")
    pairs = {b"ni1\0": nibabel.Nifti1Pair, b"ni2\0": nibabel.Nifti2Pair}
    for magic, kind in ((header[344:348], nibabel.Nifti1Image), (header[4:8], nibabel.Nifti2Image)):
        if kind.header_class.may_contain_header(header):
            return pairs.get(magic, kind)
        if magic in pairs:
            return pairs[magic]
    if len(header) >= 348 and header[:4] in (struct.pack("<i", 348), struct.pack(">i", 348)):
        raise UnusableFile("is an Analyze 7.5 file, which doesn't say left from right; convert it to NIfTI first")
    raise UnusableFile("is not a NIfTI file")


def _voxels_of(header: Path) -> Path:
    """The .img file of an .hdr file."""
    stem = re.sub(r"\.(hdr|img)(\.gz)?$", "", header.name, flags=re.IGNORECASE)
    names = [stem + ending for ending in (".img", ".img.gz", ".IMG", ".IMG.gz")]
    found = next((header.with_name(name) for name in names if header.with_name(name).is_file()), None)
    if found is None or found == header:
        raise UnusableFile(f"is the header of a pair, and its voxels, {names[0]} or {names[1]}, aren't there")
    return found


def _checked_shape(image: nibabel.Nifti1Pair, path: Path, compressed: bool) -> tuple[int, ...]:
    """The shape (D, H, W) that the header claims, if the file can hold it; nothing has been read yet."""
    shape = checked_shape([int(size) for size in image.header.get_data_shape()])
    if image.header.get_data_dtype().kind not in "iuf":
        raise UnusableFile("holds colour or complex values, not one number a voxel")
    if not 0 <= image.dataobj.offset <= MAX_OFFSET:
        raise UnusableFile(f"its header says that its voxels begin at byte {image.dataobj.offset}")
    needed = image.dataobj.offset + prod(shape) * int(image.header.get_data_dtype().itemsize)
    refuse_short(shape, needed, path.stat().st_size * (DEFLATE_RATIO if compressed else 1))
    return shape


def _checked_affine(image: nibabel.Nifti1Pair) -> NDArray[np.float64]:
    """The affine in millimetres: the sform, or the qform where there is none, if the header doesn't contradict it."""
    header = image.header
    sform, qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
    if sform is None and qform is None:
        raise UnusableFile(
            "doesn't say how it lies in the patient (its sform and qform codes are 0); set the one that is right"
        )
    affine = np.array(image.affine, dtype=np.float64)
    affine[:3] *= MILLIMETRES.get(header.get_xyzt_units()[0], 1.0)
    checked_affine(affine)
    axes = image.affine[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    said = np.abs(np.array(header.get_zooms()[:3], dtype=np.float64))
    told = np.isfinite(said) & (said > 0)
    if (np.abs(said - spacing) > SAME_SPACING * spacing)[told].any():
        raise UnusableFile(
            f"its header says a spacing of {_sizes(said)}, its affine {_sizes(spacing)}; correct the one that is wrong"
        )
    if sform is not None and qform is not None:
        other = qform[:3, :3] / np.linalg.norm(qform[:3, :3], axis=0)
        if ((axes / spacing) * other).sum(axis=0).min() < SAME_DIRECTION:
            raise UnusableFile(
                f"its sform says that its axes run to {_axes(sform)}, its qform to {_axes(qform)}; "
                "set the code of the wrong one to 0"
            )
    return affine


def _sizes(spacing: NDArray[np.float64]) -> str:
    return " x ".join(f"{size:.4g}" for size in spacing)


def _axes(affine: NDArray[np.float64]) -> str:
    return "".join(axis or "?" for axis in nibabel.aff2axcodes(affine))
