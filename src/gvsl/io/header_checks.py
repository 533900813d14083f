"""What every format's voxels and geometry are checked for, whatever file they come from."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gvsl.io.volume import MAX_VOXELS, UnusableFile, Volume

LARGEST_OBLIQUE_COSINE = 0.02
"""Between two axes of a grid: about one degree from a right angle."""
SAME_SPACING = 0.01
"""Two spacings that differ by a smaller share are one, written down with different care."""
MAX_AXES = 16
SPACINGS_MM = (1e-3, 30.0)
"""The smallest and the largest spacing that a volume of a body can have."""
WRAPPED_SHARE = 0.005
"""From this share of voxels on at the far end of an unsigned type, with none in between, they are negative numbers."""


def image_volume(raw: NDArray[Any], affine: NDArray[np.float64]) -> Volume:
    """An image as float32, (D, H, W).

    Raises:
        UnusableFile: values that are NaN or infinite, or all the same.
    """
    with np.errstate(over="ignore"):  # a value too large for float32 becomes infinite, and is refused as that
        array = raw.astype(np.float32, copy=False)
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high)):  # NaN makes both NaN
        broken = array.size - int(np.isfinite(array).sum())
        raise UnusableFile(f"{broken} of its {array.size} voxels are NaN or infinite")
    if low == high:
        raise UnusableFile(f"every voxel has the same value, {array.flat[0]:g}")
    return Volume(array, affine)


def label_volume(raw: NDArray[Any], affine: NDArray[np.float64]) -> Volume:
    """A label map as uint8, or int16 where its values need it, (D, H, W).

    Raises:
        UnusableFile: values that are not whole numbers or don't fit int16.
    """
    if raw.dtype.kind == "f" and not (np.isfinite(raw).all() and (raw == np.rint(raw)).all()):
        raise UnusableFile("its labels are not all whole numbers")
    low, high = int(raw.min()), int(raw.max())
    if low < np.iinfo(np.int16).min or high > np.iinfo(np.int16).max:
        raise UnusableFile(f"its labels run from {low} to {high}; they must fit 16 bits")
    return Volume(raw.astype(np.uint8 if low >= 0 and high <= 255 else np.int16), affine)


def checked_shape(sizes: Sequence[int]) -> tuple[int, int, int]:
    """The three sizes of a volume, from as many as a header has; nothing has been read or allocated yet.

    Raises:
        UnusableFile: it isn't a volume, has no voxels, or more than MAX_VOXELS.
    """
    shape = tuple(sizes)
    if len(shape) > MAX_AXES:
        raise UnusableFile(f"its header claims {len(shape)} axes")
    while len(shape) > 3 and shape[-1] == 1:  # 4D with one frame
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
    return shape[0], shape[1], shape[2]


def refuse_short(shape: Sequence[int], needed: int, held: int) -> None:
    """Refuse what can't hold the voxels that its header claims.

    Args:
        shape: what is claimed.
        needed: bytes of it.
        held: the most bytes that the file can hold or unfold to.

    Raises:
        UnusableFile: there are fewer than needed.
    """
    if held < needed:
        named = " x ".join(str(size) for size in shape)
        raise UnusableFile(f"is truncated: its header claims {named} voxels, more than the file can hold")


def checked_affine(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The affine, if it places the voxels on a grid with right angles.

    Raises:
        UnusableFile: it holds NaN or infinite values, is singular or sheared, or its spacing can't be.
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
    if cosines.max() > LARGEST_OBLIQUE_COSINE:
        raise UnusableFile("its axes are sheared (a tilted gantry?); resample it onto a grid with right angles first")
    if spacing.min() < SPACINGS_MM[0] or spacing.max() > SPACINGS_MM[1]:
        said = " x ".join(f"{size:.4g}" for size in spacing)
        raise UnusableFile(f"its spacing is {said} mm, beyond {SPACINGS_MM[0]:g} to {SPACINGS_MM[1]:g}")
    return affine


def refuse_wrapped(array: NDArray[Any], stored: np.dtype[Any], slope: float = 1.0, intercept: float = 0.0) -> None:
    """Refuse negative numbers that were written as unsigned ones, such as air at 64,512 in place of -1,024.

    They show as values in the last quarter of the type's range while the half below it is empty.

    Args:
        array: the values, rescaled.
        stored: the type in the file.
        slope: what the stored values were multiplied by.
        intercept: what was added then.

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
    if between == 0 and WRAPPED_SHARE * array.size <= far < array.size:
        raise UnusableFile(
            f"{100 * far / array.size:.1f} % of its voxels lie near {limit - 1} and none below that down to "
            f"{limit // 4}: negative numbers stored as unsigned ones; convert it to a signed type"
        )
