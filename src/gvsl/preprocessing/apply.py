"""Applying the contract to one volume, and to its label map on the same grid."""

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_opening

from gvsl.io import UnusableFile, Volume, resample, to_canonical
from gvsl.preprocessing.lungmask import lungs_by_network
from gvsl.preprocessing.lungs import lungs
from gvsl.preprocessing.spec import Preprocessing

FOREGROUND = 0.1
"""Of the range that the contract maps to [0, 1]; what is brighter is foreground."""
PADDING_SHARE = 0.02
"""From this share of voxels on, a volume's lowest value is taken for padding or a removed background."""
AIR_HU = -200.0
"""What is darker is lung or air, and there is some of these in nearly every CT."""
COARSE_VOXELS = 128
"""The foreground is looked for on every n-th voxel, so that no axis has more than this many."""

Box = tuple[slice, slice, slice]


def preprocess(
    image: Volume, label: Volume | None, contract: Preprocessing, mask: Volume | None = None
) -> tuple[Volume, Volume | None, int]:
    """Turn, crop, scale and resample an image and its label map as `contract` says.

    Where a mask on the image's grid says what the crop is about, it isn't looked for.

    The image is cropped and scaled to [0, 1] on its own grid, then resampled, so that no interpolated value
    decides the range. Returns the image (float32), the label map in its own integer type, and how many
    labelled voxels of the original grid the crop cut away.

    Raises:
        UnusableFile: nothing of the image is left to see after scaling, or it is too large at this spacing.
    """
    image = to_canonical(image)
    lost = 0
    if label is not None:
        label = to_canonical(label)
    if contract.crop != "none":
        if mask is None:
            box = crop_box(image, contract)
        else:
            box = _box(to_canonical(mask).array > 0, image.array.shape, _margins(image, contract))
        image = _cut(image, box)
        if label is not None:
            labelled = int(np.count_nonzero(label.array))
            label = _cut(label, box)
            lost = labelled - int(np.count_nonzero(label.array))
    image = resample(Volume(scale(image.array, contract), image.affine), contract.spacing)
    if label is not None:
        label = resample(label, contract.spacing, label=True)
    return image, label, lost


def without_air(image: Volume, contract: Preprocessing) -> bool:
    """Whether the contract's window begins at air and the image, in HU, has no voxel as dark as lung or air.

    Then its values may have been stored with air at 0; or it shows nothing else, which only its owner can know.
    """
    begins_at_air = contract.intensity == "window" and contract.lower < AIR_HU
    return bool(begins_at_air and image.array.min() > AIR_HU)


def scale(array: NDArray[np.float32], contract: Preprocessing) -> NDArray[np.float32]:
    """Map the contract's lower and upper bound to 0 and 1, and clip what is outside.

    Percentiles are taken over all voxels but those of the lowest value where these are padding (2 % of the
    volume or more), so that a removed background, or the size of the field of view, doesn't move them.

    Raises:
        UnusableFile: the bounds fall on one value, or all voxels lie outside them on the same side.
    """
    return _scaled(array, *_bounds(array, contract))


def foreground_box(array: NDArray[np.float32]) -> Box:
    """The box about what is brighter than a tenth of the range of a prepared volume, as the crop to it would be made.

    Args:
        array: (D, H, W), in [0, 1].

    Returns:
        in voxels; all of it if nothing is that bright.
    """
    steps = _coarse_steps(array.shape)
    return _box(_foreground(array[:: steps[0], :: steps[1], :: steps[2]]), array.shape, (0, 0, 0), steps)


def crop_box(image: Volume, contract: Preprocessing) -> Box:
    """The box about what the contract's crop looks for, and its margin more; everything if nothing is found.

    The foreground is what is brighter than a tenth of the range, lone voxels left out.

    Raises:
        UnusableFile: as for `scale`, or there are no lungs.
        UserError: lungmask is to find them, and the package or its weights aren't there.
    """
    steps = _coarse_steps(image.array.shape)
    coarse = image.array[:: steps[0], :: steps[1], :: steps[2]]
    bounds = _bounds(image.array, contract)
    if contract.crop == "lungs":
        if contract.lungs == "lungmask":
            mask, steps = lungs_by_network(image), [1, 1, 1]
        else:
            mask = lungs(coarse)
        if not mask.any():
            raise UnusableFile(
                "no lungs are found in it; is it a chest CT in HU? --crop foreground keeps all of the body"
            )
    else:
        mask = _foreground(_scaled(coarse, *bounds))
    return _box(mask, image.array.shape, _margins(image, contract), steps)


def _coarse_steps(shape: Sequence[int]) -> list[int]:
    return [max(1, ceil(size / COARSE_VOXELS)) for size in shape]


def _foreground(scaled: NDArray[np.float32]) -> NDArray[np.bool_]:
    mask = scaled > FOREGROUND
    opened = binary_opening(mask)
    return opened if opened.any() else mask


def _box(
    mask: NDArray[np.bool_], shape: Sequence[int], margins: Sequence[int], steps: Sequence[int] = (1, 1, 1)
) -> Box:
    """The box about a mask of every n-th voxel of a volume, and a margin more; everything if the mask is empty."""
    sides = []
    for axis, (size, step, margin) in enumerate(zip(shape, steps, margins, strict=True)):
        found = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis))) * step
        if not found.size:
            return slice(None), slice(None), slice(None)
        sides.append(slice(max(int(found[0]) - step - margin, 0), min(int(found[-1]) + step + margin + 1, size)))
    return sides[0], sides[1], sides[2]


def _bounds(array: NDArray[np.float32], contract: Preprocessing) -> tuple[float, float]:
    """The values that become 0 and 1."""
    lower, upper = contract.lower, contract.upper
    lowest, highest = array.min(), array.max()
    if contract.intensity == "percentiles":
        padding = array == lowest
        values = array[~padding] if padding.mean() >= PADDING_SHARE else array
        low, high = np.percentile(values, [contract.lower, contract.upper], overwrite_input=values is not array)
        if not low < high:
            raise UnusableFile(f"its {lower:g} and {upper:g} percentiles are both {low:g}: it has hardly any contrast")
        lower, upper = float(low), float(high)
    if highest <= lower or lowest >= upper or lowest == highest:
        raise UnusableFile(f"all of it lies outside {lower:g} to {upper:g}; is this the preset for this kind of scan?")
    return lower, upper


def _scaled(array: NDArray[np.float32], lower: float, upper: float) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what overflows is clipped
        scaled = array - np.float32(lower)
        scaled *= np.float32(1 / (upper - lower))
        return np.clip(scaled, 0, 1, out=scaled)


def _margins(volume: Volume, contract: Preprocessing) -> tuple[int, int, int]:
    """The contract's margin in voxels of the volume's own grid."""
    first, second, third = (ceil(contract.margin * contract.spacing / spacing) for spacing in volume.spacing)
    return first, second, third


def _cut(volume: Volume, box: Box) -> Volume:
    affine = volume.affine.copy()
    starts = [part.indices(size)[0] for part, size in zip(box, volume.array.shape, strict=True)]
    affine[:3, 3] += affine[:3, :3] @ np.array(starts, dtype=np.float64)
    array: NDArray[Any] = np.ascontiguousarray(volume.array[box])
    return Volume(array, affine)
