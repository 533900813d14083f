"""A match as a displacement field in patient space, on an image's own grid, and what it does to images and labels.

Everything here interpolates linearly and treats borders as ITK does, so that ITK, given the field, computes the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from torch import Tensor

from gvsl.geometry import affine_of, spatial_shape
from gvsl.io import Volume
from gvsl.io.header_checks import LPS_TO_RAS
from gvsl.propagation.match import Matched, margin

BLOCK = 2**21
"""Approximate number of voxels that are computed at once, to bound the memory."""
TIE = 1e-5
"""Weights of labels that differ by less are equal."""

Affine = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PatientField:
    """Where each voxel of a grid looks in the moving image."""

    displacement: NDArray[np.float32]
    """(D, H, W, 3), in millimetres along LPS: from a voxel's own position to the one that it looks at."""
    affine: Affine
    """4 x 4, from the grid's voxels to millimetres in RAS+."""


def patient_affine(matched: Matched, moving: Volume, fixed: Volume) -> Affine:
    """Return the affine part of a match, 4 x 4, from the fixed image's millimetres to the moving one's, in RAS+.

    Args:
        matched: the match.
        moving: as it was prepared for the match.
        fixed: the same.
    """
    onto, back = _padded(moving, matched.moving), np.linalg.inv(_padded(fixed, matched.fixed))
    found: Affine = onto @ _voxel_affine(matched) @ back
    return found


def patient_field(matched: Matched, moving: Volume, fixed: Volume, grid: Volume) -> PatientField:
    """Return a match as a field on the grid of a volume.

    Beyond the region that was matched the affine part goes on, and the rest of the field keeps its last value.

    Args:
        matched: the match.
        moving: as it was prepared for the match.
        fixed: the same.
        grid: the fixed image, or any other volume in the same space.
    """
    rest = (matched.dvf - matched.affine)[0].double().cpu().numpy()
    to_padded = np.linalg.inv(_padded(fixed, matched.fixed)) @ grid.affine
    affine = _voxel_affine(matched)
    onto = _padded(moving, matched.moving)
    displacement = np.empty((*grid.array.shape, 3), np.float32)
    for rows in _blocks(grid.array.shape):
        voxels = _voxels(rows, grid.array.shape)
        places = _mapped(to_padded, voxels)
        looked = _mapped(affine, places)
        looked += np.stack([map_coordinates(part, places, order=1, mode="nearest") for part in rest])
        apart = LPS_TO_RAS @ (_mapped(onto, looked) - _mapped(grid.affine, voxels))
        displacement[rows] = apart.T.reshape(displacement[rows].shape)
    return PatientField(displacement, grid.affine)


def warp_image(image: Volume, field: PatientField, outside: float) -> NDArray[np.float32]:
    """Return a moving image on a field's grid, (D, H, W), with the value `outside` where the field leaves it."""
    warped = np.empty(field.displacement.shape[:3], np.float32)
    for rows in _blocks(warped.shape):
        places = _looked_at(field, rows, image.affine)
        values = map_coordinates(image.array, places, np.float32, order=1, mode="nearest")
        values[~_is_within(places, image.array.shape)] = outside
        warped[rows] = values.reshape(warped[rows].shape)
    return warped


def warp_labels(labels: Volume, field: PatientField) -> NDArray[Any]:
    """Return a moving label map on a field's grid, (D, H, W), 0 where the field leaves it.

    Each voxel gets the value with the largest linear weight; in a tie 0, then the smallest.
    """
    warped = np.zeros(field.displacement.shape[:3], labels.array.dtype)
    for rows in _blocks(warped.shape):
        places = _looked_at(field, rows, labels.affine)
        values = _likeliest(labels.array, places)
        values[~_is_within(places, labels.array.shape)] = 0
        warped[rows] = values.reshape(warped[rows].shape)
    return warped


def jacobian_of(field: PatientField) -> NDArray[np.float32]:
    """Return the Jacobian determinant of a field's map, (D, H, W): by how much a voxel's volume grows on its way.

    Differences are central, and one-sided at the border.
    """
    shape = field.displacement.shape[:3]
    back = np.linalg.inv(LPS_TO_RAS @ field.affine[:3, :3])
    found = np.empty(shape, np.float32)
    for rows in _blocks(shape):
        start, stop = max(rows.start - 1, 0), min(rows.stop + 1, shape[0])
        part = field.displacement[start:stop].astype(np.float64)
        slopes = np.stack([_slope(part, axis) for axis in range(3)], axis=-1) @ back  # (..., component, direction)
        slopes = slopes[rows.start - start :][: rows.stop - rows.start] + np.eye(3)
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = (np.moveaxis(slopes[..., row, :], -1, 0) for row in range(3))
        found[rows] = ax * (by * cz - bz * cy) - ay * (bx * cz - bz * cx) + az * (bx * cy - by * cx)
    return found


def _padded(prepared: Volume, padded: Tensor) -> Affine:
    """Return the affine of a prepared volume after its padding."""
    affine = prepared.affine.copy()
    before = [margin(have, wanted) for have, wanted in zip(prepared.array.shape, spatial_shape(padded), strict=True)]
    affine[:3, 3] -= affine[:3, :3] @ np.array(before, dtype=np.float64)
    return affine


def _voxel_affine(matched: Matched) -> Affine:
    """Return the affine part of a match, 4 x 4, from voxels of the padded grid to such voxels."""
    about_centre: Affine = affine_of(matched.affine.double())[0].cpu().numpy()
    centre = np.eye(4)
    centre[:3, 3] = [(side - 1) / 2 for side in spatial_shape(matched.affine)]
    found: Affine = centre @ about_centre @ np.linalg.inv(centre)
    return found


def _blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield ranges of the first axis that together cover it."""
    rows = max(1, BLOCK // max(1, shape[1] * shape[2]))
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))


def _voxels(rows: slice, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the indices of a block's voxels, (3, N)."""
    axes = [np.arange(rows.start, rows.stop), *(np.arange(side) for side in shape[1:])]
    return np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1).astype(np.float64)


def _mapped(affine: NDArray[Any], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Apply a 4 x 4 map to points, (3, N)."""
    found: NDArray[np.float64] = affine[:3, :3] @ points + affine[:3, 3:]
    return found


def _looked_at(field: PatientField, rows: slice, affine: Affine) -> NDArray[np.float64]:
    """Return the positions that a block of a field looks at, (3, N), in voxels of the grid with this affine."""
    points = _mapped(field.affine, _voxels(rows, field.displacement.shape[:3]))
    points += LPS_TO_RAS @ field.displacement[rows].reshape(-1, 3).T.astype(np.float64)
    return _mapped(np.asarray(np.linalg.inv(affine)), points)


def _is_within(places: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which positions, (3, N) in voxels, lie in a volume, to the outer edge of its voxels."""
    last = np.array(shape, dtype=np.float64)[:, None] - 0.5
    return np.asarray(((places >= -0.5) & (places < last)).all(axis=0))


def _likeliest(labels: NDArray[Any], places: NDArray[np.float64]) -> NDArray[Any]:
    """Return the label with the largest linear weight at each position, (3, N) in voxels."""
    last = np.array(labels.shape)[:, None] - 1
    places = np.clip(places, 0, last)
    below = np.minimum(places.astype(np.int64), np.maximum(last - 1, 0))
    corners = [np.array(corner)[:, None] for corner in np.ndindex(2, 2, 2)]
    found = np.stack([labels[tuple(np.minimum(below + corner, last))] for corner in corners])
    winner = found[0].copy()
    mixed = np.flatnonzero((found != found[:1]).any(axis=0))
    found, part = found[:, mixed], (places - below)[:, mixed]
    weights = np.stack([np.where(corner, part, 1 - part).prod(axis=0) for corner in corners])
    votes = np.stack([(weights * (found == label)).sum(axis=0) for label in found])
    order = np.where(found == 0, np.iinfo(np.int32).min, found.astype(np.int32))  # 0 first, then the smallest
    order[votes < votes.max(axis=0) - TIE] = np.iinfo(np.int32).max
    winner[mixed] = np.take_along_axis(found, order.argmin(axis=0)[None], axis=0)[0]
    return winner


def _slope(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Return the differences along an axis by voxel; 0 along an axis of one voxel."""
    if values.shape[axis] < 2:
        return np.zeros_like(values)
    found: NDArray[np.float64] = np.gradient(values, axis=axis)
    return found
