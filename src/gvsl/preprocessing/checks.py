"""Checks of a volume before and after its preprocessing, for `gvsl prepare` and `gvsl predict` alike."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gvsl.io import UnusableFile, Volume, format_sizes
from gvsl.preprocessing.apply import PADDING_FRACTION, coarse_steps, naming_channel, without_air
from gvsl.preprocessing.spec import AIR_HU, Preprocessing, begins_at_air

WITHOUT_AIR = f"no voxel lies below {AIR_HU:g} HU; are its intensities offset by 1024?"
OFFSET_HU = 1024.0
PEAK_HU = 150.0
"""Half width of the intervals around air (-1000 HU) and soft tissue (0 HU)."""
MIN_GAIN = 0.1
"""Minimum fraction of voxels that an offset must bring to air and soft tissue to be believed."""
PEAK_RATIO = 2.0
"""Minimum ratio of a soft tissue peak to the intervals beside it; dense bone has no such peak."""
MIN_SHARE = 0.02
"""Minimum fraction of voxels at air or lung, and at soft tissue, of a CT that is told by its values."""
LOWEST_HU = -4096.0
"""Lowest value of a CT in HU, padding included."""
MIN_SIDE = 4
"""Minimum voxels of a prepared volume along each axis; cine MR has as few as six slices."""
MIN_RANGE = 0.02
"""Minimum range (0.5 to 99.5 %) or standard deviation of prepared values, in [0, 1]."""
MAX_CLIPPED = {"upper": 0.2, "lower": 0.9}
"""Fraction of a prepared volume at an end of the window from which this is reported; air and padding lie below it."""
MIN_KEPT = 0.02
"""Fraction of the source's extent that a crop keeps below which this is reported."""
MAX_SHRINKING = 8**3
"""Number of source voxels per prepared one above which this is reported."""


def unlike_hounsfield(image: Volume, spec: Preprocessing) -> str | None:
    """Return why the intensities of an image don't look like HU, if the preprocessing takes them for such; else None.

    It is judged by where the bulk of the voxels lies: air near -1000 and soft tissue near 0, or both 1024 above or
    below. Voxels with the image's minimum are padding if there are many, and don't count.
    """
    if not begins_at_air(spec):
        return None
    if without_air(image, spec):
        return WITHOUT_AIR
    values = _sample(image.array)
    lowest = values == values.min()
    if lowest.mean() >= PADDING_FRACTION:
        values = values[~lowest]
    if values.size == 0:
        return None
    if values.max() < AIR_HU:
        return f"no voxel lies above {AIR_HU:g} HU; were its intensities rescaled twice?"
    now = _at_air_or_tissue(values, 0)
    for offset in (OFFSET_HU, -OFFSET_HU):
        then = _at_air_or_tissue(values, offset)
        if then >= now + MIN_GAIN and (offset < 0 or _has_peak(values, offset)):
            fix = "subtract" if offset > 0 else "add"
            window = f", or give --lower {spec.lower + offset:g} --upper {spec.upper + offset:g} for such a cohort"
            return (
                f"{100 * now:.0f} % of its voxels lie at air or soft tissue in HU, {100 * then:.0f} % if its "
                f"intensities are offset by {offset:g}: {fix} {OFFSET_HU:g}{window}"
            )
    return None


def channels_unlike_hounsfield(channels: Sequence[Volume], spec: Preprocessing, airless: bool = True) -> list[str]:
    """Return why the channels in HU don't look like it, those without air only if `airless`."""
    found = []
    for number, (image, own) in enumerate(zip(channels, spec.contracts, strict=True)):
        why = unlike_hounsfield(image, own)
        if why is not None and (airless or not without_air(image, own)):
            found.append(_of_channel(spec, number) + why)
    return found


def check_channels(sources: Sequence[Volume], ready: Sequence[Volume], spec: Preprocessing) -> list[str]:
    """Return the notes of `check_prepared` on each channel of an image, without repetitions; it raises the same."""
    notes: dict[str, str] = {}
    for number, (source, done, own) in enumerate(zip(sources, ready, spec.contracts, strict=True)):
        with naming_channel(spec, number):
            for note in check_prepared(source, done, own):
                notes.setdefault(note, _of_channel(spec, number) + note)
    return list(notes.values())


def _of_channel(spec: Preprocessing, number: int) -> str:
    return f"channel {spec.channels[number].name}: " if spec.channels else ""


def seems_hounsfield(image: Volume) -> bool | None:
    """Return True if the intensities of an image can only be HU, False if they can't be, None if they may be.

    Air or lung beside soft tissue is HU; values that are all 0 or more are not.
    """
    values = _sample(image.array)
    if values.min() >= 0:
        return False
    values = values[values > values.min()]
    if values.size == 0:
        return None
    shares = (values <= AIR_HU).mean(), _fraction(values, 0)
    return True if min(shares) >= MIN_SHARE and values.min() >= LOWEST_HU else None


def check_prepared(source: Volume, ready: Volume, spec: Preprocessing) -> list[str]:
    """Return notes on what preprocessing has left of a volume, each with the figures and the fix.

    Args:
        source: the image, on its own grid.
        ready: the same after `preprocess`.
        spec: of the preprocessing.

    Raises:
        UnusableFile: an axis has fewer than MIN_SIDE voxels, or there is hardly any contrast.
    """
    shape = ready.array.shape
    left = f"{format_sizes(shape)} voxels at {format_sizes(ready.spacing, '.4g')} mm"
    before = f"{format_sizes(source.array.shape)} at {format_sizes(source.spacing, '.4g')} mm"
    if min(shape) < MIN_SIDE:
        raise UnusableFile(
            f"only {left} are left of {before}; {MIN_SIDE} along each axis are needed: correct its spacing if that is "
            "wrong (microns or metres taken for mm?), or give a smaller --spacing"
        )
    values = _sample(ready.array)
    low, high = np.percentile(values, [0.5, 99.5])
    if max(high - low, values.std()) < MIN_RANGE:
        raise UnusableFile(
            f"its prepared values range from {low:.4f} to {high:.4f} of 0 to 1: hardly any contrast is left by "
            f"{spec.lower:g} to {spec.upper:g} ({spec.intensity}); is this the preset for this kind of scan, and are "
            "its intensities in that unit?"
        )
    notes = []
    if spec.intensity == "window":
        ends = {"upper": (values >= 1 - 1e-3).mean(), "lower": (values <= 1e-3).mean()}
        notes += [
            f"{100 * share:.0f} % of it is clipped at the {end} end of the window, {getattr(spec, end):g}; "
            f"check its intensities, or give another --{end}"
            for end, share in ends.items()
            if share > MAX_CLIPPED[end]
        ]
    kept = _extent(ready) / _extent(source)
    if spec.crop != "none" and kept < MIN_KEPT:
        notes.append(f"the crop ({spec.crop}) kept {100 * kept:.2g} % of it, {left}; --crop none keeps all")
    shrinking = prod(ready.spacing) / prod(source.spacing)
    if shrinking > MAX_SHRINKING:
        notes.append(
            f"each prepared voxel stands for {shrinking:.0f} of its own: {left} of {before}; "
            "correct its spacing if that is wrong, or give a smaller --spacing"
        )
    return notes


def _at_air_or_tissue(values: NDArray[Any], offset: float) -> float:
    return _fraction(values, offset - 1000) + _fraction(values, offset)


def _has_peak(values: NDArray[Any], centre: float) -> bool:
    beside = max(_fraction(values, centre - 2 * PEAK_HU), _fraction(values, centre + 2 * PEAK_HU))
    return _fraction(values, centre) >= PEAK_RATIO * beside


def _fraction(values: NDArray[Any], centre: float) -> float:
    return float((np.abs(values - centre) <= PEAK_HU).mean())


def _sample(array: NDArray[Any]) -> NDArray[Any]:
    """Return every n-th voxel along each axis, flat."""
    first, second, third = coarse_steps(array.shape)
    return array[::first, ::second, ::third].ravel()


def _extent(volume: Volume) -> float:
    """Return the volume of the whole array in cubic millimetres."""
    return prod(volume.array.shape) * prod(volume.spacing)
