from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gvsl.io import UnusableFile, Volume
from gvsl.preprocessing import PRESETS, Preprocessing, preprocess
from gvsl.preprocessing.checks import WITHOUT_AIR, check_prepared, unlike_hounsfield

CT = replace(PRESETS["ct"], crop="none")
Array = NDArray[Any]


def body(air: bool = True, contrast: bool = False, bone: float = 0.04) -> Array:
    """Return a CT in HU: noisy air about a body with lung, fat, muscle, bone and, if asked for, enhanced vessels."""
    draw = np.random.default_rng(0)
    place = np.indices((40, 40, 16))
    distance = np.hypot(place[0] - 20, place[1] - 20)
    kinds = draw.random(distance.shape)
    conditions = [kinds < bone, kinds > 0.8, kinds > 0.7]
    array = np.select(conditions, [draw.uniform(250, 1500, kinds.shape), -800.0, -100.0], 45.0)
    if contrast:
        array[(kinds > 0.5) & (kinds < 0.7)] = 380
    if air:
        array[distance > 14] = -1000
    return (array + draw.normal(0, 15, array.shape)).astype(np.float32)


def padded(array: Array, value: float) -> Array:
    array = array.copy()
    array[:6] = value
    return array


def note(array: Array, spec: Preprocessing = CT) -> str | None:
    return unlike_hounsfield(Volume(array, np.eye(4)), spec)


@pytest.mark.parametrize("air", [True, False])
@pytest.mark.parametrize("contrast", [True, False])
@pytest.mark.parametrize("bone", [0.0, 0.04, 0.5])
@pytest.mark.parametrize("padding", [None, -1024, -2000, -3024])
def test_hounsfield_units_are_recognised(air: bool, contrast: bool, bone: float, padding: float | None) -> None:
    array = body(air, contrast, bone)
    assert note(array if padding is None else padded(array, padding)) is None


@pytest.mark.parametrize("padding", [-1000, -2000, -3024])
@pytest.mark.parametrize("air", [True, False])
def test_an_offset_is_told_whatever_the_padding(air: bool, padding: float) -> None:
    found = note(padded(body(air) + 1024, padding))
    assert found is not None
    assert "offset by 1024: subtract 1024, or give --lower 0 --upper 2048" in found


def test_stored_values_and_twice_rescaled_ones_are_told() -> None:
    assert note(body().clip(-1024) + 1024) == WITHOUT_AIR
    assert note((body() + 1024) / 4096) == WITHOUT_AIR
    twice = body() - 1024
    twice[20, 20] = 1  # the brightest voxels alone say nothing
    assert "offset by -1024: add 1024" in str(note(twice))
    assert "rescaled twice" in str(note(body(bone=0) - 1024))


def test_a_window_for_other_units_is_not_judged() -> None:
    assert note(body() + 1024, replace(CT, lower=0, upper=2048)) is None
    assert note(body() + 1024, PRESETS["mr"]) is None


def check(array: Array, spec: Preprocessing, spacing: float = 1.0) -> list[str]:
    source = Volume(array, np.diag([spacing] * 3 + [1.0]))
    ready, _, _ = preprocess(source, None, spec)
    return check_prepared(source, ready, spec)


def test_an_ordinary_volume_is_accepted_without_a_note() -> None:
    assert check(body(), CT) == []
    assert check(body(), PRESETS["ct"]) == []
    assert check(body(), PRESETS["mr"]) == []


@pytest.mark.parametrize("micro", [0.001, 0.009, 0.05])
def test_a_volume_of_hardly_any_voxels_is_refused_with_both_sizes(micro: float) -> None:
    reason = rf"only \d x \d x \d voxels at 1 x 1 x 1 mm are left of 40 x 40 x 16 at {micro} x .*--spacing"
    with pytest.raises(UnusableFile, match=reason):
        check(body(), CT, micro)


def test_a_volume_shrunk_to_a_few_voxels_is_told() -> None:
    array = np.random.default_rng(0).random((90, 90, 90)).astype(np.float32)
    (found,) = check(array, replace(PRESETS["none"], spacing=0.9), 0.09)
    assert "each prepared voxel stands for 1000 of its own: 9 x 9 x 9" in found


def test_lost_contrast_is_refused_with_the_range() -> None:
    with pytest.raises(UnusableFile, match=r"range from 0\.5\d* to 0\.5\d* of 0 to 1: hardly any contrast"):
        check((body() + 1024) / 4096, CT)
    spike = body()
    spike[0, 0, 0] = 1e6
    with pytest.raises(UnusableFile, match="hardly any contrast is left by 0 to 100"):
        check(spike, PRESETS["none"])
    assert check(spike, replace(PRESETS["none"], upper=99.9)) == []


def test_clipping_and_a_crop_of_nearly_all_are_told_with_their_shares() -> None:
    (found,) = check(body() + 1024, CT)
    assert "% of it is clipped at the upper end of the window, 1024" in found
    speck = np.random.default_rng(0).normal(0, 0.001, (64, 64, 64)).astype(np.float32)
    speck[30:36, 30:36, 30:36] += 1
    (found,) = check(speck, replace(PRESETS["none"], crop="foreground"))
    assert "the crop (foreground) kept 0.2 % of it, 8 x 8 x 8 voxels" in found
