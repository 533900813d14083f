"""NIfTI files: read with every check that a hostile file needs, written whole or not at all."""

import gzip
import logging
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any, cast

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import logger
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from gvsl.files import whole_file
from gvsl.io.volume import MAX_VOXELS, UnusableFile, Volume

GZIP_MAGIC = b"\x1f\x8b"
DEFLATE_RATIO = 1032
"""The most bytes that one byte of a gzip stream can unfold to."""
HEADER_BYTES = 540
"""Of NIfTI-2; NIfTI-1 has 348."""
CHUNK_BYTES = 2**20
LARGEST_OBLIQUE_COSINE = 0.02
"""Between two axes of a grid: about one degree from a right angle."""
MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
BROKEN = (
    OSError,
    EOFError,
    zlib.error,
    struct.error,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    ImageFileError,
    HeaderDataError,
    WrapStructError,
)
"""What nibabel and the decompressor raise on files that are not what they say."""


def read_nifti(path: Path) -> Volume:
    """Read an image as float32 (D, H, W), rescaled as its header says, on the grid that the file has.

    Raises:
        UnusableFile: the file is unreadable, truncated or damaged, is no 3D scalar volume (a single frame of
            4D is one), holds NaN or infinite values or one value only, claims more than MAX_VOXELS, or has no
            usable affine.
    """
    raw, affine = _read(path, np.float32)
    with np.errstate(over="ignore"):  # a value too large for float32 becomes infinite, and is refused as that
        array = raw.astype(np.float32, copy=False)
    broken = array.size - int(np.isfinite(array).sum())
    if broken:
        raise UnusableFile(f"{broken} of its {array.size} voxels are NaN or infinite")
    if array.min() == array.max():
        raise UnusableFile(f"every voxel has the same value, {array.flat[0]:g}")
    return Volume(array, affine)


def read_nifti_label(path: Path) -> Volume:
    """Read a label map as uint8, or int16 where its values need it, (D, H, W).

    Raises:
        UnusableFile: as `read_nifti` (but one value only is allowed), or values that are not whole numbers or
            don't fit int16.
    """
    raw, affine = _read(path, None)
    if raw.dtype.kind == "f" and not (np.isfinite(raw).all() and (raw == np.rint(raw)).all()):
        raise UnusableFile("its labels are not all whole numbers")
    low, high = int(raw.min()), int(raw.max())
    if low < np.iinfo(np.int16).min or high > np.iinfo(np.int16).max:
        raise UnusableFile(f"its labels run from {low} to {high}; they must fit 16 bits")
    return Volume(raw.astype(np.uint8 if low >= 0 and high <= 255 else np.int16), affine)


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
    except BROKEN as error:
        raise UnusableFile(f"can't be read as NIfTI ({_one_line(error)})") from None
    header.set_data_shape(array.shape)
    header.set_data_dtype(array.dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    with whole_file(path) as temporary:
        nibabel.save(kind(array, None, header), temporary)


def _read(path: Path, scaled: type[np.float32] | None) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The voxels, (D, H, W), and the affine in millimetres.

    The voxels are rescaled as the header says, to `scaled`; without it, to the type that rescaling needs, or
    to the file's own where there is nothing to rescale.
    """
    try:
        with _open(path) as (stream, compressed), _quiet(), np.errstate(all="ignore"):
            image = _image_class(stream).from_stream(stream)
            shape = _checked_shape(image, path, compressed)
            affine = _checked_affine(image)
            array = np.asanyarray(image.dataobj, dtype=scaled)
            if compressed:
                while stream.read(CHUNK_BYTES):  # on to the end, where gzip keeps its checksum
                    continue
            else:
                array = np.array(array)  # a copy of what may be mapped to the file that closes now
    except UnusableFile:
        raise
    except FileNotFoundError:
        raise UnusableFile("there is no such file") from None
    except EOFError:
        raise UnusableFile("is truncated: its compressed data ends early") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UnusableFile(f"its compressed data is damaged ({_one_line(error)})") from None
    except MemoryError:
        raise UnusableFile("is larger than the memory that is free") from None
    except BROKEN as error:
        short = re.search(r"Expected (\d+) bytes, got (\d+) bytes", str(error))
        if short:
            raise UnusableFile(f"is truncated: it holds {short[2]} of {short[1]} bytes of voxels") from None
        raise UnusableFile(f"can't be read as NIfTI ({_one_line(error)})") from None
    return array.reshape(shape), affine


@contextmanager
def _open(path: Path) -> Iterator[tuple[IO[bytes], bool]]:
    """Open by what the file is, not by what it is called, and say whether it is compressed."""
    with path.open("rb") as raw:
        magic = raw.read(len(GZIP_MAGIC))
        raw.seek(0)
        if magic != GZIP_MAGIC:
            yield raw, False
            return
        with gzip.GzipFile(fileobj=raw, mode="rb") as stream:
            yield cast(IO[bytes], stream), True


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


def _image_class(stream: IO[bytes]) -> type[nibabel.Nifti1Image]:
    header = stream.read(HEADER_BYTES)
    stream.seek(0)
    if not header:
        raise UnusableFile("is empty")
    if b"ni1\0" in header[:348] or b"ni2\0" in header[:348]:
        raise UnusableFile("is the header of an .hdr and .img pair; convert the pair to .nii first")
    for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
        if kind.header_class.may_contain_header(header):
            return kind
    raise UnusableFile("is not a NIfTI file")


def _checked_shape(image: nibabel.Nifti1Image, path: Path, compressed: bool) -> tuple[int, ...]:
    """The shape (D, H, W) that the header claims, if the file can hold it; nothing has been read yet."""
    shape = tuple(int(size) for size in image.header.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    named = " x ".join(str(size) for size in shape)
    if any(size < 1 for size in shape) or not shape:
        raise UnusableFile(f"holds no voxels: its header says {named or 'nothing'}")
    if len(shape) < 3 or min(shape[:3]) == 1:
        raise UnusableFile(f"is 2D ({named}); a volume is needed")
    if len(shape) > 3:
        raise UnusableFile(f"is {len(shape)}D ({named}); split it into 3D volumes first")
    if prod(shape) > MAX_VOXELS:
        raise UnusableFile(f"its header claims {named} voxels; at most {MAX_VOXELS:,} can be taken")
    if image.header.get_data_dtype().kind not in "iuf":
        raise UnusableFile("holds colour or complex values, not one number a voxel")
    needed = image.dataobj.offset + prod(shape) * int(image.header.get_data_dtype().itemsize)
    held = path.stat().st_size * (DEFLATE_RATIO if compressed else 1)
    if held < needed:
        raise UnusableFile(f"is truncated: its header claims {named} voxels, more than the file can hold")
    return shape


def _checked_affine(image: nibabel.Nifti1Image) -> NDArray[np.float64]:
    """The affine in millimetres, if it places the voxels on a grid with right angles."""
    affine = np.array(image.affine, dtype=np.float64)
    if not np.isfinite(affine).all():
        raise UnusableFile("its affine holds NaN or infinite values")
    unit = image.header.get_xyzt_units()[0]
    affine[:3] *= MILLIMETRES.get(unit, 1.0)
    axes = affine[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    if spacing.min() <= 0:
        raise UnusableFile("its affine is singular: an axis has no length")
    cosines = np.abs((axes / spacing).T @ (axes / spacing) - np.eye(3))
    if abs(np.linalg.det(axes / spacing)) < 1e-3:
        raise UnusableFile("its affine is singular: two axes point the same way")
    if cosines.max() > LARGEST_OBLIQUE_COSINE:
        raise UnusableFile("its axes are sheared (a tilted gantry?); resample it onto a grid with right angles first")
    return affine


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
