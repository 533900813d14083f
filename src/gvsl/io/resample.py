"""Resampling onto an isotropic grid over the same field of view."""

from collections.abc import Sequence
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, eye_array

from gvsl.io.volume import MAX_VOXELS, UnusableFile, Volume

SAME_SPACING_MM = 1e-3
SAME_LINES = 1e-3
"""Voxels that two grids' axes may run apart for each voxel along them."""
FWHM_TO_SIGMA = 1 / (2 * np.sqrt(2 * np.log(2)))
CUT_OFF_SIGMAS = 4.0
TIE = 1e-5
"""Shares of labels that differ by less are equal: they are sums of float32 weights."""


def resample(volume: Volume, spacing_mm: float, label: bool = False) -> Volume:
    """Resample to `spacing_mm` along every axis, over the same field of view to half a voxel.

    An image is interpolated linearly; an axis that shrinks is smoothed first, by the Gaussian that takes a
    point spread as wide as the old voxel to one as wide as the new (Cardoso et al., MICCAI 2015). A label map
    takes at each point the value with the largest share of the same weights, so no value appears that was not
    there; a structure thinner than the new voxels may vanish. A volume whose spacing is right to 0.001 mm is
    returned as it is.

    Raises:
        UnusableFile: the resampled volume would have more than MAX_VOXELS.
    """
    spacing = np.array(volume.spacing)
    factors = spacing_mm / spacing
    if np.abs(spacing - spacing_mm).max() <= SAME_SPACING_MM:
        return volume
    old = np.array(volume.array.shape)
    new = np.maximum(np.rint(old / factors), 1)
    if new.prod() > MAX_VOXELS:
        named = " x ".join(f"{size:.0f}" for size in new)
        raise UnusableFile(
            f"would have {named} voxels at {spacing_mm:g} mm; its spacing of {_named(spacing)} looks wrong"
        )
    starts = ((old - 1) - (new - 1) * factors) / 2
    weights = [_weights(int(old[axis]), int(new[axis]), float(starts[axis]), float(factors[axis])) for axis in range(3)]
    to_old = np.diag([*factors, 1.0])
    to_old[:3, 3] = starts
    array = _vote(volume.array, weights) if label else _apply(volume.array.astype(np.float32), weights)
    return Volume(array, volume.affine @ to_old)


def resample_onto(
    volume: Volume, shape: Sequence[int], affine: NDArray[np.float64], label: bool = False
) -> NDArray[Any]:
    """Read a RAS+ volume on another grid whose axes run along the same lines, in any order and direction: (D, H, W).

    The way back from a prepared volume to the grid that it came from. The weights are those of `resample`. What lies
    more than a voxel outside of the volume is 0.

    Args:
        volume: its axes grow to the right, the front and the top.
        shape: of the other grid.
        affine: 4 x 4, from the other grid's voxels to millimetres in RAS+.
        label: take the value with the largest weight, not the weighted mean.

    Raises:
        ValueError: the axes do not run along the same lines.
    """
    turns = nibabel.io_orientation(affine)
    turned = affine @ nibabel.orientations.inv_ornt_aff(turns, shape)
    new = [int(shape[int(np.flatnonzero(turns[:, 0] == axis)[0])]) for axis in range(3)]
    to_volume = np.linalg.inv(volume.affine) @ turned
    factors, starts = np.diag(to_volume)[:3], to_volume[:3, 3]
    if np.abs(to_volume[:3, :3] - np.diag(factors)).max() > SAME_LINES:
        raise ValueError("the two grids' axes do not run along the same lines")
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


def _weights(old: int, new: int, start: float, factor: float) -> csr_array:
    """(new, old): row i weighs the old voxels about position start + i * factor; each row sums to one."""
    positions = np.clip(start + factor * np.arange(new), 0, old - 1)
    below = np.minimum(np.floor(positions).astype(int), max(old - 2, 0))
    share = positions - below
    rows = np.repeat(np.arange(new), 2)
    columns = np.minimum(np.stack([below, below + 1], axis=1), old - 1).ravel()
    linear = csr_array((np.stack([1 - share, share], axis=1).ravel(), (rows, columns)), shape=(new, old))
    return csr_array(linear @ _smoothing(old, factor)).astype(np.float32)


def _smoothing(size: int, factor: float) -> csr_array:
    """(size, size): a Gaussian for shrinking by `factor`, its weights at the ends made to sum to one."""
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


def _apply(array: NDArray[np.float32], weights: list[csr_array]) -> NDArray[np.float32]:
    """Apply one matrix to each axis of (D, H, W)."""
    first, second, third = weights
    rows = first @ np.ascontiguousarray(array).reshape(array.shape[0], -1)
    slabs = rows.reshape(-1, *array.shape[1:])
    done = np.empty((first.shape[0], second.shape[0], third.shape[0]), np.float32)
    for slab, target in zip(slabs, done, strict=True):  # a slab fits the cache, so transposing it costs little
        target[:] = (third @ (second @ slab).T).T
    return done


def _vote(labels: NDArray[Any], weights: list[csr_array]) -> NDArray[Any]:
    """The value with the largest weight at each new voxel; of equal ones zero, then the smallest."""
    shape = tuple(matrix.shape[0] for matrix in weights)
    winner = np.zeros(shape, labels.dtype)
    best = np.zeros(shape, np.float32)
    zero = np.ones(shape, np.float32)  # the weights sum to one, so what no other value has is zero's
    for value in np.unique(labels[labels != 0]):
        mask = labels == value
        old_box = _bounds(mask)
        inner = [matrix[:, part] for matrix, part in zip(weights, old_box, strict=True)]
        new_box = tuple(_reached(matrix) for matrix in inner)
        if any(part.start == part.stop for part in new_box):
            continue
        touched = [matrix[part] for matrix, part in zip(inner, new_box, strict=True)]
        share = _apply(mask[old_box].astype(np.float32), touched)
        zero[new_box] -= share
        ahead = share > best[new_box] + TIE
        winner[new_box][ahead] = value
        best[new_box][ahead] = share[ahead]
    winner[zero > best - TIE] = 0
    return winner


def _bounds(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """The smallest box about the true voxels of a mask that has some."""
    found = [np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis))) for axis in range(3)]
    first, second, third = (slice(int(ends[0]), int(ends[-1]) + 1) for ends in found)
    return first, second, third


def _reached(matrix: csr_array) -> slice:
    """The rows that hold any weight."""
    rows = np.flatnonzero(np.diff(matrix.indptr))
    return slice(int(rows[0]), int(rows[-1]) + 1) if rows.size else slice(0, 0)


def _named(spacing: NDArray[np.float64]) -> str:
    return " x ".join(f"{value:g}" for value in spacing) + " mm"
