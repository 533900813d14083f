"""Image grids, a phantom on them, and what tests of predictions share."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from gvsl.store import Store

RADII = np.array([17.0, 13.0, 15.0])
Array = NDArray[np.float64]


def affine_of(rotation: tuple[float, float, float], spacing: tuple[float, float, float], turn: list[int]) -> Array:
    """Oblique axes in another order and some the other way; an odd number of flips is left-handed."""
    matrix = np.eye(4)
    axes = Rotation.from_euler("xyz", rotation, degrees=True).as_matrix()
    matrix[:3, :3] = axes[:, [abs(axis) - 1 for axis in turn]] * np.sign(turn) * np.array(spacing)
    return matrix


GRIDS = {
    "plain": affine_of((0, 0, 0), (1, 1, 1), [1, 2, 3]),
    "oblique": affine_of((12, -9, 20), (1, 1, 1), [1, 2, 3]),
    "anisotropic": affine_of((0, 0, 0), (0.7, 0.7, 3.0), [1, 2, 3]),
    "left-handed": affine_of((0, 0, 0), (1.2, 0.9, 1.1), [-1, 2, 3]),
    "all of it": affine_of((-15, 8, 11), (0.8, 2.5, 0.6), [-3, 1, -2]),
    "left-handed oblique": affine_of((7, 14, -10), (1.5, 0.75, 2.0), [2, 1, -3][::-1]),
}


def phantom(affine: Array) -> tuple[nib.Nifti1Image, Array]:
    """An ellipsoid whose grey value falls by 50 a millimetre, and each voxel's distance from its surface in mm."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    shape = np.ceil(56 / spacing).astype(int)
    placed = affine.copy()
    placed[:3, 3] = np.array([11.0, -23.0, 5.0]) - affine[:3, :3] @ ((shape - 1) / 2)
    points = np.moveaxis(np.indices(shape), 0, -1) @ placed[:3, :3].T + placed[:3, 3] - np.array([11.0, -23.0, 5.0])
    length = np.linalg.norm(points / RADII, axis=-1)
    distance = length * (length - 1) / np.maximum(np.linalg.norm(points / RADII**2, axis=-1), 1e-9)
    distance[length < 1e-6] = -RADII.min()  # the quotient says nothing at the centre
    image = nib.Nifti1Image(np.clip(-50 * distance, -1000, 1000).astype(np.float32), placed)
    return image, distance


def allowed(distance: Array) -> Array:
    """Half a voxel along the surface's normal, in mm: of the image or of the prepared grid of 1 mm, the larger.

    How many mm the distance grows by a voxel, over the three axes, is how long a voxel is along the normal.
    """
    voxel: Array = np.sqrt(sum(slope**2 for slope in np.gradient(distance)))
    return 0.5 * np.maximum(1.0, voxel)


def source(store: Store, case: str) -> Path:
    return store.path.parent / store.cases[case].source


def changed_fields(before: Any, after: Any) -> set[str]:
    return {name for name in before.header if before.header[name].tobytes() != after.header[name].tobytes()}
