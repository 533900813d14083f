"""Resampling to another spacing over the same field of view, and back."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gvsl.io.volume import MAX_VOXELS, UnusableFile, Volume, bounding_box, format_sizes

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SPACING_TOLERANCE_MM = 1e-3
PARALLEL_TOLERANCE = 1e-3
"""Maximum deviation between the axes of two grids, in voxels per voxel along them."""
FWHM_TO_SIGMA = 1 / (2 * np.sqrt(2 * np.log(2)))
CUT_OFF_SIGMAS = 4.0
TIE = 1e-5
"""Weights of labels that differ by less are equal: they are sums in float32."""


def resample(volume: Volume, spacing_mm: float | Sequence[float], label: bool = False) -> Volume:
    """Resample to `spacing_mm`, one for all axes or one each, over the same field of view to half a voxel.

    Images are interpolated linearly. An axis that shrinks is smoothed first, by the Gaussian that widens a point
    spread of the old voxel size to the new one (Cardoso et al., MICCAI 2015). A label map takes at each point the
    value with the largest sum of the same weights, so no new value appears; a structure thinner than the new voxels
    may vanish. A volume with this spacing to 0.001 mm is returned unchanged.

    Raises:
        UnusableFile: the resampled volume would have more than MAX_VOXELS.
    """
    spacing = np.array(volume.spacing)
    wanted = np.broadcast_to(np.asarray(spacing_mm, dtype=np.float64), 3)
    factors = wanted / spacing
    if np.abs(spacing - wanted).max() <= SPACING_TOLERANCE_MM:
        return volume
    old = np.array(volume.array.shape)
    new = np.maximum(np.rint(old / factors), 1)
    if new.prod() > MAX_VOXELS:
        claimed, current = format_sizes(new, ".0f"), format_sizes(spacing, "g")
        edge = format_sizes(dict.fromkeys(wanted), "g") if len(set(wanted)) == 1 else format_sizes(wanted, "g")
        raise UnusableFile(f"would have {claimed} voxels at {edge} mm; its spacing of {current} mm looks wrong")
    starts = ((old - 1) - (new - 1) * factors) / 2
    weights = [_weights(int(old[axis]), int(new[axis]), float(starts[axis]), float(factors[axis])) for axis in range(3)]
    to_old = np.diag([*factors, 1.0])
    to_old[:3, 3] = starts
    array = _vote(volume.array, weights) if label else _apply(volume.array.astype(np.float32), weights)
    return Volume(array, volume.affine @ to_old)


def resample_onto(
    volume: Volume, shape: Sequence[int], affine: NDArray[np.float64], label: bool = False
) -> NDArray[Any]:
    """Sample a RAS+ volume on a grid with parallel axes, in any order and direction: (D, H, W).

    This maps a prepared volume back to its source's grid, with the weights of `resample`. Points more than a voxel
    outside the volume are 0.

    Args:
        volume: in RAS+ order.
        shape: of the grid.
        affine: 4 x 4, from the grid's voxels to millimetres in RAS+.
        label: take the value with the largest weight instead of the weighted mean.

    Raises:
        ValueError: the axes are not parallel.
    """
    import nibabel

    turns = nibabel.io_orientation(affine)
    turned = affine @ nibabel.orientations.inv_ornt_aff(turns, shape)
    new = [int(shape[int(np.flatnonzero(turns[:, 0] == axis)[0])]) for axis in range(3)]
    to_volume = np.linalg.inv(volume.affine) @ turned
    factors, starts = np.diag(to_volume)[:3], to_volume[:3, 3]
    if np.abs(to_volume[:3, :3] - np.diag(factors)).max() > PARALLEL_TOLERANCE:
        raise ValueError("the axes of the two grids are not parallel")
    old = volume.array.shape
    weights = [_weights(old[axis], new[axis], float(starts[axis]), float(factors[axis])) for axis in range(3)]
    array = _vote(volume.array, weights) if label else _apply(volume.array.astype(np.float32), weights)
    for axis in range(3):
        positions = starts[axis] + factors[axis] * np.arange(new[axis])
        away = (positions < -1) | (positions > old[axis])
        array[(slice(None),) * axis + (away,)] = 0
    back = nibabel.orientations.ornt_transform(np.stack([np.arange(3), np.ones(3)], axis=1), turns)
    done: NDArray[Any] = np.ascontiguousarray(nibabel.apply_orientation(array, back))
    return done


def _weights(old: int, new: int, start: float, factor: float) -> "csr_array":
    """Return (new, old) weights: row i of the old voxels around start + i * factor. Each row sums to one."""
    from scipy.sparse import csr_array

    positions = np.clip(start + factor * np.arange(new), 0, old - 1)
    below = np.minimum(np.floor(positions).astype(int), max(old - 2, 0))
    fraction = positions - below
    rows = np.repeat(np.arange(new), 2)
    columns = np.minimum(np.stack([below, below + 1], axis=1), old - 1).ravel()
    linear = csr_array((np.stack([1 - fraction, fraction], axis=1).ravel(), (rows, columns)), shape=(new, old))
    return csr_array(linear @ _smoothing(old, factor)).astype(np.float32)


def _smoothing(size: int, factor: float) -> "csr_array":
    """Return the (size, size) Gaussian for shrinking by `factor`; each row sums to one."""
    from scipy.sparse import csr_array, eye_array

    if factor <= 1:
        return csr_array(eye_array(size))
    sigma = FWHM_TO_SIGMA * np.sqrt(factor**2 - 1)
    reach = min(int(np.ceil(CUT_OFF_SIGMAS * sigma)), size - 1)
    offsets = np.arange(-reach, reach + 1)
    rows = np.repeat(np.arange(size), offsets.size)
    columns = rows + np.tile(offsets, size)
    values = np.tile(np.exp(-0.5 * (offsets / sigma) ** 2), size)
    inside = (columns >= 0) & (columns < size)
    kernel = csr_array((values[inside], (rows[inside], columns[inside])), shape=(size, size))
    return csr_array(kernel.multiply(1 / kernel.sum(axis=1)[:, None]))


def _apply(array: NDArray[np.float32], weights: "list[csr_array]") -> NDArray[np.float32]:
    """Apply one matrix to each axis of (D, H, W)."""
    first, second, third = weights
    rows = first @ np.ascontiguousarray(array).reshape(array.shape[0], -1)
    slabs = rows.reshape(-1, *array.shape[1:])
    done = np.empty((first.shape[0], second.shape[0], third.shape[0]), np.float32)
    for slab, target in zip(slabs, done, strict=True):  # a slab fits the cache, so transposing is cheap
        target[:] = (third @ (second @ slab).T).T
    return done


def _vote(labels: NDArray[Any], weights: "list[csr_array]") -> NDArray[Any]:
    """Return the value with the largest weight at each new voxel; in a tie zero, then the smallest."""
    shape = tuple(matrix.shape[0] for matrix in weights)
    winner = np.zeros(shape, labels.dtype)
    best = np.zeros(shape, np.float32)
    zero = np.ones(shape, np.float32)  # the weights sum to one, and zero has the rest
    for value in np.unique(labels[labels != 0]):
        mask = labels == value
        old_box = bounding_box(mask)
        assert old_box is not None
        inner = [matrix[:, part] for matrix, part in zip(weights, old_box, strict=True)]
        new_box = tuple(_reached(matrix) for matrix in inner)
        if any(part.start == part.stop for part in new_box):
            continue
        touched = [matrix[part] for matrix, part in zip(inner, new_box, strict=True)]
        weight = _apply(mask[old_box].astype(np.float32), touched)
        zero[new_box] -= weight
        ahead = weight > best[new_box] + TIE
        winner[new_box][ahead] = value
        best[new_box][ahead] = weight[ahead]
    winner[zero > best - TIE] = 0
    return winner


def _reached(matrix: "csr_array") -> slice:
    """Return the range of rows that hold any weight."""
    rows = np.flatnonzero(np.diff(matrix.indptr))
    return slice(int(rows[0]), int(rows[-1]) + 1) if rows.size else slice(0, 0)
