"""Checks of voxels and geometry that apply to every format."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gvsl.io.volume import MAX_VOXELS, UnusableFile, Volume, format_sizes

MAX_OBLIQUE_COSINE = 0.02
"""Limit for the cosine between two axes of a grid: about one degree from a right angle."""
MAX_AXES = 16
ROUNDING = 1e-3
"""Maximum distance of a label from a whole number."""
SPACINGS_MM = (1e-3, 30.0)
"""Range of plausible spacings of a body scan."""
WRAPPED_FRACTION = 0.005
"""Minimum fraction of voxels at the upper end of an unsigned type, with none below, that shows a wrap-around."""
SPACING_TOLERANCE = 0.01
"""Maximum relative difference between the spacings of header and affine, which may be rounded differently."""
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def image_volume(raw: NDArray[Any], affine: NDArray[np.float64]) -> Volume:
    """Convert an image to float32, (D, H, W); UnusableFile if a value is NaN or infinite, or all are equal."""
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, and are refused
        array = raw.astype(np.float32, copy=False)
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high)):  # NaN makes both NaN
        broken = array.size - int(np.isfinite(array).sum())
        raise UnusableFile(f"{broken} of its {array.size} voxels are NaN or infinite")
    if low == high:
        raise UnusableFile(f"every voxel has the same value, {array.flat[0]:g}")
    return Volume(array, affine)


def label_volume(raw: NDArray[Any], affine: NDArray[np.float64]) -> Volume:
    """Convert a label map to uint8, or to int16 if its values need it, (D, H, W).

    Values within ROUNDING of a whole number, as rescaling and resampling leave them, are rounded, with a note.

    Raises:
        UnusableFile: a value is not a whole number or doesn't fit int16.
    """
    notes: tuple[str, ...] = ()
    if raw.dtype.kind == "f":
        raw, notes = _rounded(raw)
    low, high = int(raw.min()), int(raw.max())
    if low < np.iinfo(np.int16).min or high > np.iinfo(np.int16).max:
        raise UnusableFile(f"its labels run from {low} to {high}; they must fit 16 bits")
    return Volume(raw.astype(np.uint8 if low >= 0 and high <= 255 else np.int16), affine, notes)


def _rounded(raw: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return labels as whole numbers, and a note if they were not."""
    finite = np.isfinite(raw)
    if not finite.all():
        broken = raw.size - int(finite.sum())
        raise UnusableFile(f"its labels are not all whole numbers: {broken} of {raw.size} are NaN or infinite")
    whole = np.rint(raw)
    off = raw != whole
    if not off.any():
        return raw, ()
    distance = np.abs(raw - whole)
    if distance.max() > ROUNDING:
        value, count = raw.flat[int(distance.argmax())], np.count_nonzero(distance > ROUNDING)
        raise UnusableFile(
            f"its labels are not all whole numbers: {count} of {raw.size} are not, such as {value:.6g}; is it a "
            "probability map, or was it interpolated? Make it anew by nearest neighbour, or round it"
        )
    example = raw.flat[int(distance.argmax())]
    note = (
        f"{np.count_nonzero(off)} labels were rounded to whole numbers, such as {example:.8g} to {np.rint(example):g}"
    )
    return whole, (note,)


def checked_shape(sizes: Sequence[int]) -> tuple[int, int, int]:
    """Return the three sizes of a volume, from all that its header has; called before anything is allocated.

    Raises:
        UnusableFile: it is no volume, or has no voxels or more than MAX_VOXELS.
    """
    shape = tuple(sizes)
    if len(shape) > MAX_AXES:
        raise UnusableFile(f"its header claims {len(shape)} axes")
    while len(shape) > 3 and shape[-1] == 1:  # 4D with one frame
        shape = shape[:-1]
    named = format_sizes(shape)
    if any(size < 1 for size in shape) or not shape:
        raise UnusableFile(f"holds no voxels: its header has {named or 'no sizes'}")
    if len(shape) < 3 or min(shape[:3]) == 1:
        raise UnusableFile(f"is 2D ({named}); a volume is needed")
    if len(shape) > 3:
        raise UnusableFile(f"is {len(shape)}D ({named}); split it into 3D volumes first")
    if prod(shape) > MAX_VOXELS:
        raise UnusableFile(f"its header claims {named} voxels; at most {MAX_VOXELS:,} can be taken")
    return shape[0], shape[1], shape[2]


def checked_frames(sizes: Sequence[int], count: int) -> tuple[int, int, int, int]:
    """Return the sizes of a volume with several channels on a fourth axis, as `checked_shape` does.

    Args:
        sizes: all that the header has.
        count: the number of channels that it must have.

    Raises:
        UnusableFile: it has another number, or is no such volume.
    """
    shape = tuple(sizes[:MAX_AXES])
    while len(shape) > 4 and shape[-1] == 1:
        shape = shape[:-1]
    frames = shape[3] if len(shape) > 3 else 1
    if len(shape) > 4:
        raise UnusableFile(f"is {len(shape)}D ({format_sizes(shape)}); channels lie on the fourth axis, the last")
    if frames != count:
        raise UnusableFile(
            f"has {frames} of {count} channels: it is {format_sizes(shape)}, and they lie on a fourth axis"
        )
    first, second, third = checked_shape(shape[:3])
    if prod(shape) > MAX_VOXELS:
        raise UnusableFile(f"its header claims {format_sizes(shape)} voxels; at most {MAX_VOXELS:,} can be taken")
    return first, second, third, frames


def refuse_short(shape: Sequence[int], needed: int, held: int) -> None:
    """Refuse a file that can't hold the `shape` its header claims.

    Args:
        shape: (D, H, W).
        needed: bytes of the voxels.
        held: maximum number of bytes that the file can hold or decompress to.

    Raises:
        UnusableFile: `held` is less than `needed`.
    """
    if held < needed:
        raise UnusableFile(f"is truncated: its header claims {format_sizes(shape)} voxels, more than the file can hold")


def checked_affine(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the affine if its grid has right angles.

    Raises:
        UnusableFile: it has NaN or infinite values, is singular or sheared, or its spacing is implausible.
    """
    if not np.isfinite(affine).all():
        raise UnusableFile("its affine holds NaN or infinite values")
    axes = affine[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    if not (spacing.min() > 0 and np.isfinite(spacing).all()):
        raise UnusableFile("its affine is singular: an axis has no length")
    cosines = np.abs((axes / spacing).T @ (axes / spacing) - np.eye(3))
    if abs(np.linalg.det(axes / spacing)) < 1e-3:
        raise UnusableFile("its affine is singular: two axes point the same way")
    if cosines.max() > MAX_OBLIQUE_COSINE:
        raise UnusableFile("its axes are sheared (a tilted gantry?); resample it onto a grid with right angles first")
    if spacing.min() < SPACINGS_MM[0] or spacing.max() > SPACINGS_MM[1]:
        low, high = SPACINGS_MM
        raise UnusableFile(f"its spacing is {format_sizes(spacing, '.4g')} mm, outside {low:g} to {high:g}")
    return affine


def refuse_other_spacing(claimed: NDArray[np.float64], affine: NDArray[np.float64]) -> None:
    """Refuse a header whose spacing is not that of its affine, in the same unit; UnusableFile if it is another."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if (np.abs(claimed - spacing) > SPACING_TOLERANCE * spacing).any():
        one, other = (format_sizes(sizes, ".4g") for sizes in (claimed, spacing))
        raise UnusableFile(f"its header has a spacing of {one}, its affine {other}; correct the one that is wrong")


def refuse_wrapped(array: NDArray[Any], stored: np.dtype[Any], slope: float = 1.0, intercept: float = 0.0) -> None:
    """Refuse negative numbers that were written as unsigned, such as air at 64,512 instead of -1,024.

    Such an image has values in the last quarter of the type's range and none in the half below.

    Args:
        array: rescaled values, `slope` times the stored ones plus `intercept`.
        stored: type in the file.
        slope: of the rescaling.
        intercept: of the rescaling.

    Raises:
        UnusableFile: the values have wrapped around.
    """
    if stored.kind != "u" or stored.itemsize not in (2, 4):
        return
    limit = 256**stored.itemsize
    ends = sorted(slope * part * limit / 4 + intercept for part in (1, 3))
    if slope > 0 and array.max() < ends[1]:
        return
    outer = (array >= ends[1]) if slope > 0 else (array <= ends[0])
    far = np.count_nonzero(outer)
    between = np.count_nonzero((array >= ends[0]) & (array <= ends[1]) & ~outer)
    if between == 0 and WRAPPED_FRACTION * array.size <= far < array.size:
        raise UnusableFile(
            f"{100 * far / array.size:.1f} % of its voxels lie near {limit - 1} and none below that down to "
            f"{limit // 4}: negative numbers stored as unsigned ones; convert it to a signed type"
        )
