"""NIfTI files: untrusted when read, written whole or not at all."""

import re
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from math import prod
from pathlib import Path
from typing import IO, Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import logger
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from gvsl.files import whole_file
from gvsl.io.header_checks import (
    checked_affine,
    checked_frames,
    checked_shape,
    refuse_other_spacing,
    refuse_short,
    refuse_wrapped,
)
from gvsl.io.stream import (
    BROKEN,
    DEFLATE_RATIO,
    GZIP_MAGIC,
    decompressed,
    one_line,
    refuse_overlong,
    refuse_rest,
    silenced,
    wrap_read_errors,
)
from gvsl.io.text_header import data_path, middle_planes
from gvsl.io.volume import UnusableFile, Volume

HEADER_BYTES = 540
"""Size of NIfTI-2's header; NIfTI-1's has 348 bytes."""
EXTENSION_BYTES = 4
"""Size of the flag for extensions behind the header of a single file."""
MAX_OFFSET = 2**26
"""Limit for the header with its extensions, in bytes."""
LENGTH_UNIT = 0x07
"""Bits of xyzt_units with the unit of length."""
UNITS = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""Millimetres in each unit: unknown, metre, millimetre and micron."""
SAME_DIRECTION = 0.7
"""Minimum cosine between an axis in sform and in qform, which may differ by a registration."""
NIFTI_ERRORS = (struct.error, ImageFileError, HeaderDataError, WrapStructError)


def write_nifti(path: Path, volume: Volume) -> None:
    """Write a volume as NIfTI-1 in millimetres, gzipped if the name ends in .gz; an existing file is replaced."""
    image = nibabel.Nifti1Image(volume.array, volume.affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.affine, code="scanner")
    image.set_qform(volume.affine, code="scanner")
    with whole_file(path) as temporary:
        nibabel.save(image, temporary)


def write_nifti_vectors(path: Path, vectors: NDArray[Any], affine: NDArray[np.float64]) -> None:
    """Write a vector at each voxel, (D, H, W, 3), as NIfTI-1 of intent vector; an existing file is replaced.

    The file is gzipped if its name ends in .gz.
    """
    image = nibabel.Nifti1Image(vectors[:, :, :, None, :], affine)
    image.header.set_xyzt_units("mm")
    image.header.set_intent("vector")
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    with whole_file(path) as temporary:
        nibabel.save(image, temporary)


def write_nifti_like(path: Path, array: NDArray[Any], like: Path) -> None:
    """Write voxels, (D, H, W), with the header of the NIfTI file `like`; an existing file is replaced.

    Affines, their codes, units and spacing are copied bit for bit; type, shape and rescaling follow the array. The
    file is gzipped if its name ends in .gz.

    Raises:
        UnusableFile: `like` can't be read as NIfTI.
    """
    try:
        with _open(like) as (stream, _), silenced(logger):
            kind = _image_class(stream)
            header = kind.header_class.from_fileobj(_header_of(kind, stream))
    except (*BROKEN, *NIFTI_ERRORS) as error:
        raise UnusableFile(f"can't be read as NIfTI ({one_line(error)})") from None
    header.set_data_shape(array.shape)
    header.set_data_dtype(array.dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    with whole_file(path) as temporary:
        nibabel.save(kind(array, None, header), temporary)


def load_nifti(
    path: Path, scaled: type[np.float32] | None, frames: int = 0
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Load the rescaled voxels, (D, H, W), and the RAS+ affine in millimetres, of one file or an .hdr and .img pair.

    The voxels have the type `scaled`; without it, the type that rescaling needs, or the file's own if there is
    nothing to rescale. With `frames`, the number of channels on a fourth axis, they are (D, H, W, C).

    Raises:
        UnusableFile: the file can't be used.
    """
    with wrap_read_errors("NIfTI"):
        try:
            with _opened(path) as (image, stream, voxels, compressed):
                shape = _checked_shape(image, voxels, compressed, frames)
                affine = _checked_affine(image)
                array = np.asanyarray(image.dataobj, dtype=scaled)
                if compressed:
                    refuse_rest(stream)
                else:
                    array = np.array(array)  # may be mapped to the file that is about to be closed
                slope, intercept = image.dataobj.slope, image.dataobj.inter
        except (*NIFTI_ERRORS, OSError) as error:
            short = re.search(r"Expected (\d+) bytes, got (\d+) bytes", str(error))
            if short:
                raise UnusableFile(f"is truncated: it holds {short[2]} of {short[1]} bytes of voxels") from None
            if isinstance(error, OSError):
                raise
            raise UnusableFile(f"can't be read as NIfTI ({one_line(error)})") from None
    if scaled is not None:
        for channel in np.moveaxis(array, -1, 0) if frames else [array]:
            refuse_wrapped(channel, image.header.get_data_dtype(), float(slope), float(intercept))
    return array.reshape(shape), affine


def count_axes(path: Path) -> int:
    """Return the number of axes of more than one voxel behind the third, and three; UnusableFile as `load_nifti`."""
    with wrap_read_errors("NIfTI"):
        try:
            with _opened(path) as (image, _, _, _):
                return 3 + sum(int(size) > 1 for size in image.header.get_data_shape()[3:])
        except NIFTI_ERRORS as error:
            raise UnusableFile(f"can't be read as NIfTI ({one_line(error)})") from None


def peek_nifti(path: Path, count: int) -> tuple[tuple[int, int, int], NDArray[np.float64], NDArray[Any]]:
    """Return shape, RAS+ affine and about `count` rescaled voxels of the middle; UnusableFile as for `load_nifti`."""
    with wrap_read_errors("NIfTI"):
        try:
            with _opened(path) as (image, _, voxels, compressed):
                shape = _checked_shape(image, voxels, compressed)
                affine = _checked_affine(image)
                first, planes = middle_planes(shape, count)
                sample = np.array(image.dataobj[:, :, first : first + planes])
                return (shape[0], shape[1], shape[2]), affine, sample
        except NIFTI_ERRORS as error:
            raise UnusableFile(f"can't be read as NIfTI ({one_line(error)})") from None


def nifti_files(path: Path) -> list[Path]:
    """Return the file and that of its voxels, if it is another; UnusableFile as for `load_nifti`."""
    with wrap_read_errors("NIfTI"):
        try:
            with _opened(path) as (_, _, voxels, _):
                return [path] if voxels == path else [path, voxels]
        except NIFTI_ERRORS as error:
            raise UnusableFile(f"can't be read as NIfTI ({one_line(error)})") from None


@contextmanager
def _opened(path: Path) -> Iterator[tuple[nibabel.Nifti1Pair, IO[bytes], Path, bool]]:
    """Yield the image without its voxels, the open file of these, its path, and True if that is compressed."""
    with ExitStack() as stack:
        stream, compressed = stack.enter_context(_open(path))
        stack.enter_context(silenced(logger))
        stack.enter_context(np.errstate(all="ignore"))
        kind = _image_class(stream)
        voxels, header = path, kind.header_class.from_fileobj(_header_of(kind, stream))
        if not issubclass(kind, nibabel.Nifti1Image):
            voxels = _voxels_of(path)
            stream, compressed = stack.enter_context(_open(voxels))
        image = kind(kind.ImageArrayProxy(stream, header.copy()), None, header)
        yield image, stream, voxels, compressed


@contextmanager
def _open(path: Path) -> Iterator[tuple[IO[bytes], bool]]:
    """Yield the decompressed stream, and True if the file is gzipped, whatever its name."""
    with path.open("rb") as raw:
        zipped = raw.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        raw.seek(0)
        with decompressed(raw, "gzip" if zipped else "raw") as stream:
            yield stream, zipped


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
        raise UnusableFile("is an Analyze 7.5 file, which doesn't define left and right; convert it to NIfTI first")
    raise UnusableFile("is not a NIfTI file")


def _voxels_of(header: Path) -> Path:
    """Find the .img file of an .hdr file."""
    stem = re.sub(r"\.(hdr|img)(\.gz)?$", "", header.name, flags=re.IGNORECASE)
    names = [stem + ending for ending in (".img", ".img.gz", ".IMG", ".IMG.gz")]
    found = next((name for name in names if header.with_name(name).is_file()), None)
    if found is None or header.with_name(found) == header:
        raise UnusableFile(f"is the header of a pair, and its voxel file {names[0]} or {names[1]} is missing")
    return data_path(header, found)


def _checked_shape(image: nibabel.Nifti1Pair, path: Path, compressed: bool, frames: int = 0) -> tuple[int, ...]:
    """Return the header's shape, (D, H, W), or (D, H, W, C) with `frames`, if the file can hold it.

    It is called before any voxel is read.
    """
    sizes = [int(size) for size in image.header.get_data_shape()]
    shape: tuple[int, ...] = checked_frames(sizes, frames) if frames else checked_shape(sizes)
    if image.header.get_data_dtype().kind not in "iuf":
        raise UnusableFile("holds colour or complex values, not one number per voxel")
    needed = image.dataobj.offset + prod(shape) * int(image.header.get_data_dtype().itemsize)
    held = path.stat().st_size
    refuse_short(shape, needed, held * (DEFLATE_RATIO if compressed else 1))
    if not compressed:  # what is decompressed is measured when it is read
        refuse_overlong(held - needed)
    return shape


def _header_of(kind: type[nibabel.Nifti1Pair], stream: IO[bytes]) -> IO[bytes]:
    """Return the header with its extensions and no more, which a wrong length of theirs might ask for.

    The stream is rewound.

    Raises:
        UnusableFile: a field is outside the standard's range, for which nibabel would take another value.
    """
    size = kind.header_class.sizeof_hdr
    block = stream.read(size)
    if len(block) < size:
        raise UnusableFile("is truncated: its header ends early")
    header = kind.header_class(block, check=False)
    single = issubclass(kind, nibabel.Nifti1Image)
    first, offset = (size + EXTENSION_BYTES if single else 0), float(header["vox_offset"])
    if not first <= offset <= MAX_OFFSET:
        raise UnusableFile(
            f"its header places the voxels at byte {offset:.0f} (vox_offset), but they can't begin before {first} or "
            f"after {MAX_OFFSET}; write it anew by the program that made it"
        )
    unit = int(header["xyzt_units"]) & LENGTH_UNIT
    if unit not in UNITS:
        raise UnusableFile(f"its header has the unit of length {unit} (xyzt_units); the standard has 0 to 3")
    if int(header["qform_code"]) and float(header["pixdim"][0]) not in (-1, 0, 1):
        raise UnusableFile(f"its header has pixdim[0] {float(header['pixdim'][0]):g}; the standard has -1 or 1")
    stream.seek(0)
    whole = BytesIO(stream.read(int(offset) if single else MAX_OFFSET))
    stream.seek(0)
    return whole


def _checked_affine(image: nibabel.Nifti1Pair) -> NDArray[np.float64]:
    """Return the affine in millimetres, the sform or else the qform, if the header doesn't contradict it."""
    header = image.header
    sform, qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
    if sform is None and qform is None:
        raise UnusableFile(
            "has no orientation in the patient (its sform and qform codes are 0); set the code of the right one"
        )
    best = np.array(header.get_best_affine(), dtype=np.float64)
    affine = best.copy()
    affine[:3] *= UNITS[int(header["xyzt_units"]) & LENGTH_UNIT]
    checked_affine(affine)
    axes = best[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    zooms = np.abs(np.array(header.get_zooms()[:3], dtype=np.float64))
    refuse_other_spacing(np.where(np.isfinite(zooms) & (zooms > 0), zooms, spacing), best)
    if sform is not None and qform is not None:
        other = qform[:3, :3] / np.linalg.norm(qform[:3, :3], axis=0)
        if ((axes / spacing) * other).sum(axis=0).min() < SAME_DIRECTION:
            raise UnusableFile(
                f"its axes run to {_axes(sform)} by its sform and to {_axes(qform)} by its qform; "
                "set the code of the wrong one to 0"
            )
    return affine


def _axes(affine: NDArray[np.float64]) -> str:
    return "".join(axis or "?" for axis in nibabel.aff2axcodes(affine))
