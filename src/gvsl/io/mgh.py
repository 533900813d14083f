"""FreeSurfer's MGH files, plain or gzipped (.mgz). Files are untrusted."""

from pathlib import Path
from typing import Any

import numpy as np
from nibabel.freesurfer.mghformat import MGHHeader
from numpy.typing import NDArray

from gvsl.io.header_checks import checked_affine, checked_shape, refuse_other_spacing, refuse_short, refuse_wrapped
from gvsl.io.stream import DEFLATE_RATIO, GZIP_MAGIC, decompressed, read_voxels, wrap_read_errors
from gvsl.io.volume import UnusableFile

MAGIC = b"\0\0\0\1"
"""The version, big-endian, with which every file begins."""
HEADER_BYTES = 284
"""Size of the header, most of it unused."""
GOOD_RAS = slice(28, 30)
"""Bytes of the flag that says whether the header has an orientation."""
TYPES = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}


def load_mgh(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Load the voxels in their stored type, (D, H, W), and the RAS+ affine in millimetres.

    Raises:
        UnusableFile: the file can't be used.
    """
    with wrap_read_errors("MGH"), path.open("rb") as raw:
        zipped = raw.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        raw.seek(0)
        with decompressed(raw, "gzip" if zipped else "raw") as stream:
            head = stream.read(HEADER_BYTES)
            if len(head) < HEADER_BYTES:
                raise UnusableFile("is truncated: its header ends early")
            if not int.from_bytes(head[GOOD_RAS], "big"):
                raise UnusableFile("has no orientation in the patient (its goodRASFlag is 0)")
            header = MGHHeader(head, check=False)
            shape = checked_shape([int(size) for size in header["dims"]])
            kind = int(header["type"])
            if kind not in TYPES:
                raise UnusableFile(f"its voxels are of type {kind}, not one number per voxel")
            dtype = np.dtype(TYPES[kind])
            if not (header["delta"] > 0).all():
                raise UnusableFile(f"its header has a spacing of {' x '.join(f'{edge:g}' for edge in header['delta'])}")
            affine = checked_affine(np.array(header.get_affine(), dtype=np.float64))
            refuse_other_spacing(header["delta"].astype(np.float64), affine)
            held = path.stat().st_size * (DEFLATE_RATIO if zipped else 1)
            refuse_short(shape, HEADER_BYTES + int(np.prod(shape)) * dtype.itemsize, held)
            array = read_voxels(stream, shape, dtype).astype(dtype.newbyteorder("="))
    refuse_wrapped(array, dtype)
    return array, affine
