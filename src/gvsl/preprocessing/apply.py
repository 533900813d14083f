"""Preprocessing of one volume, and of its label map on the same grid."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gvsl.io import Box, UnusableFile, Volume, bounding_box, resample, to_canonical
from gvsl.preprocessing.lungs import lungs_by_network, lungs_by_threshold
from gvsl.preprocessing.spec import AIR_HU, Preprocessing, begins_at_air

FOREGROUND = 0.1
"""Lower limit of the foreground in scaled intensities."""
PADDING_FRACTION = 0.02
"""Minimum fraction of voxels with a volume's minimum that makes this padding or a removed background."""
COARSE_VOXELS = 128
"""Maximum number of voxels per axis in the search for the foreground, which skips the others."""


def preprocess(
    image: Volume,
    label: Volume | None,
    spec: Preprocessing,
    mask: Volume | None = None,
    ignored: Collection[int] = (),
) -> tuple[Volume, Volume | None, int]:
    """Reorient, crop, scale and resample an image and its label map as specified.

    The image is cropped and scaled to [0, 1] on its own grid and then resampled, so that interpolated values don't
    affect the range. A `mask` on the image's grid replaces the search for the region to crop to. Voxels with a label
    value in `ignored` are not counted as labelled.

    Returns:
        the image (float32), the label map in its own integer type, and the number of labelled voxels of the original
        grid that the crop removed.

    Raises:
        UnusableFile: the scaled image is constant, or too large at this spacing.
    """
    (ready,), ready_label, lost = preprocess_channels((image,), label, spec, mask, ignored)
    return ready, ready_label, lost


def preprocess_channels(
    channels: Sequence[Volume],
    label: Volume | None,
    spec: Preprocessing,
    mask: Volume | None = None,
    ignored: Collection[int] = (),
) -> tuple[list[Volume], Volume | None, int]:
    """Do the same with the channels of an image, which lie on one grid, each scaled by its own range.

    They are cropped alike, to the box around the foregrounds of all.
    """
    images = [to_canonical(channel) for channel in channels]
    label = None if label is None else to_canonical(label)
    lost = 0
    if spec.crop != "none":
        if mask is None:
            box = _common_box(images, spec)
        else:
            box = _box(to_canonical(mask).array > 0, images[0].array.shape, _margins(images[0], spec))
        images = [_cut(image, box) for image in images]
        if label is not None:
            labelled = _count_labelled(label, ignored)
            label = _cut(label, box)
            lost = labelled - _count_labelled(label, ignored)
    ready = []
    for number, own in enumerate(spec.contracts):
        with naming_channel(spec, number):
            ready.append(resample(Volume(scale(images[number].array, own), images[number].affine), own.voxel))
    if label is not None:
        label = resample(label, spec.voxel, label=True)
    return ready, label, lost


def _common_box(images: Sequence[Volume], spec: Preprocessing) -> Box:
    """Return the smallest box around those of the channels; of a crop to the lungs, those in HU."""
    boxes = []
    for number, (image, own) in enumerate(zip(images, spec.contracts, strict=True)):
        if own.crop == spec.crop:
            with naming_channel(spec, number):
                boxes.append(crop_box(image, own))
    if len(boxes) == 1:
        return boxes[0]
    sides = [[box[axis].indices(size) for box in boxes] for axis, size in enumerate(images[0].array.shape)]
    first, second, third = (slice(min(ends[0] for ends in side), max(ends[1] for ends in side)) for side in sides)
    return first, second, third


@contextmanager
def naming_channel(spec: Preprocessing, number: int, file: str = "") -> Iterator[None]:
    """Name a channel of several in what is wrong with it."""
    try:
        yield
    except UnusableFile as error:
        if not spec.channels:
            raise
        where = f" ({file})" if file else ""
        raise UnusableFile(f"its channel {spec.channels[number].name}{where}: {error}") from None


def _count_labelled(label: Volume, ignored: Collection[int]) -> int:
    return int(np.count_nonzero(label.array)) - sum(int((label.array == value).sum()) for value in ignored)


def without_air(image: Volume, spec: Preprocessing) -> bool:
    """Return True if the window begins at air but the image has no voxel as dark as lung or air.

    Its intensities may then be offset, with air at 0; or it shows no air.
    """
    return bool(begins_at_air(spec) and image.array.min() > AIR_HU)


def scale(array: NDArray[np.float32], spec: Preprocessing) -> NDArray[np.float32]:
    """Map the lower and upper bound to 0 and 1, and clip.

    Percentiles exclude voxels with the volume's minimum if these are padding (2 % of the volume or more), so that
    they don't depend on a removed background or the size of the field of view.

    Raises:
        UnusableFile: the bounds coincide, or all voxels lie outside them on the same side.
    """
    return _scaled(array, *_bounds(array, spec))


def foreground_box(array: NDArray[np.float32]) -> Box:
    """Return the box around the foreground of a prepared volume, (D, H, W) in [0, 1]; all of it if there is none."""
    steps = coarse_steps(array.shape)
    return _box(_foreground(array[:: steps[0], :: steps[1], :: steps[2]]), array.shape, (0, 0, 0), steps)


def crop_box(image: Volume, spec: Preprocessing) -> Box:
    """Return the box around the foreground or the lungs with the margin; everything if there is no foreground.

    The foreground is brighter than a tenth of the range; single voxels don't count.

    Raises:
        UnusableFile: as for `scale`, or no lungs are found.
        UserError: lungmask or its weights are needed and missing.
    """
    steps = coarse_steps(image.array.shape)
    coarse = image.array[:: steps[0], :: steps[1], :: steps[2]]
    bounds = _bounds(image.array, spec)
    if spec.crop == "lungs":
        if spec.lungs == "lungmask":
            mask, steps = lungs_by_network(image), [1, 1, 1]
        else:
            mask = lungs_by_threshold(coarse)
        if not mask.any():
            raise UnusableFile(
                "no lungs are found in it; is it a chest CT in HU? --crop foreground keeps the whole body"
            )
    else:
        mask = _foreground(_scaled(coarse, *bounds))
    return _box(mask, image.array.shape, _margins(image, spec), steps)


def coarse_steps(shape: Sequence[int]) -> list[int]:
    """Return the step along each axis that leaves at most COARSE_VOXELS."""
    return [max(1, ceil(size / COARSE_VOXELS)) for size in shape]


def _foreground(scaled: NDArray[np.float32]) -> NDArray[np.bool_]:
    from scipy.ndimage import binary_opening

    mask = scaled > FOREGROUND
    opened = binary_opening(mask)
    return opened if opened.any() else mask


def _box(
    mask: NDArray[np.bool_], shape: Sequence[int], margins: Sequence[int], steps: Sequence[int] = (1, 1, 1)
) -> Box:
    """Return the box with margins around a mask of every n-th voxel of a volume; everything if the mask is empty."""
    found = bounding_box(mask)
    if found is None:
        return slice(None), slice(None), slice(None)
    first, second, third = (
        slice(max(part.start * step - step - margin, 0), min(part.stop * step + margin + 1, size))
        for part, size, step, margin in zip(found, shape, steps, margins, strict=True)
    )
    return first, second, third


def _bounds(array: NDArray[np.float32], spec: Preprocessing) -> tuple[float, float]:
    """Return the values that become 0 and 1."""
    lower, upper = spec.lower, spec.upper
    lowest, highest = array.min(), array.max()
    if spec.intensity == "percentiles":
        padding = array == lowest
        values = array[~padding] if padding.mean() >= PADDING_FRACTION else array
        low, high = np.percentile(values, [spec.lower, spec.upper], overwrite_input=values is not array)
        if not low < high:
            raise UnusableFile(f"its {lower:g} and {upper:g} percentiles are both {low:g}: it has hardly any contrast")
        lower, upper = float(low), float(high)
    if highest <= lower or lowest >= upper or lowest == highest:
        raise UnusableFile(f"all of it lies outside {lower:g} to {upper:g}; is this the preset for this kind of scan?")
    return lower, upper


def _scaled(array: NDArray[np.float32], lower: float, upper: float) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # infinite values are clipped
        scaled = array - np.float32(lower)
        scaled *= np.float32(1 / (upper - lower))
        return np.clip(scaled, 0, 1, out=scaled)


def _margins(volume: Volume, spec: Preprocessing) -> tuple[int, int, int]:
    """Convert the margin to voxels of the volume's own grid."""
    pairs = zip(spec.voxel, volume.spacing, strict=True)
    first, second, third = (ceil(spec.margin * prepared / own) for prepared, own in pairs)
    return first, second, third


def _cut(volume: Volume, box: Box) -> Volume:
    affine = volume.affine.copy()
    starts = [part.indices(size)[0] for part, size in zip(box, volume.array.shape, strict=True)]
    affine[:3, 3] += affine[:3, :3] @ np.array(starts, dtype=np.float64)
    array: NDArray[Any] = np.ascontiguousarray(volume.array[box])
    return Volume(array, affine)
