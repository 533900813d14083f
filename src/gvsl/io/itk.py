"""Transforms as files that ITK's tools read: SimpleITK, ANTs, Slicer.

A transform maps a point of the fixed image, in millimetres, to the point of the moving image to look at. ITK's axes run
to the patient's left, back and head (LPS), and gvsl's to the right, front and head (RAS).
"""

from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from gvsl.files import whole_file, write_text
from gvsl.io.header_checks import LPS_TO_RAS
from gvsl.io.nifti import write_nifti_vectors

CHUNK = 2**18
"""Numbers that are compressed together in an HDF5 file."""


def write_displacement_nifti(path: Path, displacement: NDArray[np.float32], affine: NDArray[np.float64]) -> None:
    """Write a displacement field as NIfTI of intent vector, as ANTs does; an existing file is replaced.

    Args:
        path: gzipped if its name ends in .gz.
        displacement: (D, H, W, 3), in millimetres along LPS.
        affine: 4 x 4, from the grid's voxels to millimetres in RAS+.
    """
    write_nifti_vectors(path, displacement, affine)


def write_displacement_transform(path: Path, displacement: NDArray[np.float32], affine: NDArray[np.float64]) -> None:
    """Write a displacement field as ITK's DisplacementFieldTransform in HDF5 (.h5); an existing file is replaced.

    The numbers are stored in single precision, compressed.

    Args:
        path: of the file.
        displacement: (D, H, W, 3), in millimetres along LPS.
        affine: 4 x 4, from the grid's voxels to millimetres in RAS+.
    """
    axes = LPS_TO_RAS @ affine[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    grid = [displacement.shape[:3], LPS_TO_RAS @ affine[:3, 3], spacing, (axes / spacing).ravel()]
    numbers = displacement.transpose(2, 1, 0, 3).astype(np.float32, copy=False).reshape(-1)
    words = {
        "ITKVersion": "5.4.0",
        "HDFVersion": h5py.version.hdf5_version,
        "OSName": f"gvsl {version('gvsl')}",
        "OSVersion": "",
        "TransformGroup/0/TransformType": "DisplacementFieldTransform_double_3_3",
    }
    with whole_file(path) as temporary, h5py.File(temporary, "w") as file:
        for name, word in words.items():
            file.create_dataset(name, data=[word.encode()], dtype=h5py.string_dtype("ascii"))
        file["TransformGroup/0/TransformFixedParameters"] = np.concatenate(grid).astype(np.float64)
        file.create_dataset(
            "TransformGroup/0/TransformParameters",
            data=numbers,
            chunks=(min(CHUNK, numbers.size),),
            compression="gzip",
            compression_opts=1,
            shuffle=True,
        )


def write_affine_transform(path: Path, matrix: NDArray[np.float64]) -> None:
    """Write an affine map as ITK's AffineTransform in text (.tfm); an existing file is replaced.

    Args:
        path: of the file.
        matrix: 4 x 4, from millimetres in RAS+ of the fixed image to those of the moving one.
    """
    linear = LPS_TO_RAS @ matrix[:3, :3] @ LPS_TO_RAS
    numbers = [*linear.ravel(), *(LPS_TO_RAS @ matrix[:3, 3])]
    lines = [
        "#Insight Transform File V1.0",
        "#Transform 0",
        "Transform: AffineTransform_double_3_3",
        f"Parameters: {' '.join(repr(float(number)) for number in numbers)}",
        "FixedParameters: 0 0 0",
    ]
    write_text(path, "\n".join(lines) + "\n")
