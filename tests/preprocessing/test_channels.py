import json
from dataclasses import replace

import numpy as np
import pytest

from gvsl.cases import SourceChannel
from gvsl.errors import UserError
from gvsl.io import UnusableFile, Volume
from gvsl.preprocessing import PRESETS, Preprocessing, parse_preprocessing, preprocess, preprocessing_values
from gvsl.preprocessing.apply import preprocess_channels
from gvsl.preprocessing.channels import parse_channel, with_channels
from gvsl.preprocessing.spec import Channel

from ..channels import make_channels

BOTH = [SourceChannel("CT", 0, 2), SourceChannel("PET", 1, 2)]
T2, ADC = Channel("T2", 0, 2, "percentiles", 0.5, 99.5), Channel("ADC", 1, 2, "window", 0.0, 300.0)


def ranges(spec: Preprocessing) -> list[tuple[str, float, float]]:
    return [(each.intensity, each.lower, each.upper) for each in spec.channels]


@pytest.mark.parametrize(
    ("preset", "asked", "expected"),
    [
        ("mr", [], [("window", -1024, 1024), ("percentiles", 0.5, 99.5)]),
        ("ct", ["all"], [("window", -1024, 1024), ("percentiles", 0.5, 99.5)]),
        ("brain-mr", ["CT", "PET"], [("window", -1024, 1024), ("percentiles", 0, 99.9)]),
        (
            "mr",
            ["CT=window:-160:240", "PET=percentiles:0:99.9"],
            [("window", -160, 240), ("percentiles", 0, 99.9)],
        ),
    ],
)
def test_each_channel_has_the_range_asked_for_or_that_of_its_name(
    preset: str, asked: list[str], expected: list[tuple[str, float, float]]
) -> None:
    assert ranges(with_channels(PRESETS[preset], BOTH, [parse_channel(text) for text in asked])) == expected


def test_a_window_for_all_is_that_of_the_channels_in_hu_alone() -> None:
    spec = replace(PRESETS["ct"], lower=-160.0, upper=240.0)
    assert ranges(with_channels(spec, BOTH, [])) == [("window", -160, 240), ("percentiles", 0.5, 99.5)]


@pytest.mark.parametrize("text", ["", "=window:0:1", "CT=window", "CT=window:0", "CT=hu:0:1", "CT=window:a:b"])
def test_what_is_no_channel_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"--channels .*: give a name, or one with a range such as"):
        parse_channel(text)


@pytest.mark.parametrize("text", ["CT=window:2:1", "CT=percentiles:0:101"])
def test_a_range_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"lower must be the smaller|percentiles run from 0 to 100"):
        with_channels(PRESETS["mr"], BOTH[:1], [parse_channel(text)])


def test_a_range_needs_a_channel() -> None:
    assert with_channels(PRESETS["mr"], [], [parse_channel("all")]) == PRESETS["mr"]
    with pytest.raises(UserError, match="the images have one channel: give its range by --intensity"):
        with_channels(PRESETS["mr"], [], [parse_channel("CT=window:0:1")])


def test_a_spec_without_channels_is_written_as_ever_and_one_with_them_is_read_again() -> None:
    assert "channels" not in preprocessing_values(PRESETS["mr"])
    spec = replace(PRESETS["mr"], channels=(T2, ADC))
    values = json.loads(json.dumps(preprocessing_values(spec)))
    assert parse_preprocessing(values) == spec
    assert parse_preprocessing(preprocessing_values(PRESETS["mr"])).channels == ()


@pytest.mark.parametrize(
    "channels",
    [
        3,
        [3],
        [{"name": "T2"}],
        [{**T2.__dict__, "number": 2}],
        [{**T2.__dict__, "lower": 100.0}],
        [{**T2.__dict__, "name": "a\x1b"}],
        [{**T2.__dict__, "extra": 1}],
        [T2.__dict__] * 40,
    ],
)
def test_malformed_channels_are_refused(channels: object) -> None:
    with pytest.raises(UserError):
        parse_preprocessing({**preprocessing_values(PRESETS["mr"]), "channels": channels})


def test_channels_are_scaled_by_themselves_and_cropped_alike() -> None:
    arrays = np.zeros((2, 30, 20, 20), np.float32)
    arrays[0, 12:20, 5:15, 5:15] = np.linspace(50, 100, 100, dtype=np.float32).reshape(10, 10)
    arrays[1, 4:14, 5:15, 5:15] = 150
    images = [Volume(array, np.eye(4)) for array in arrays]
    spec = Preprocessing(margin=0, channels=(T2, ADC))
    (first, second), label, _ = preprocess_channels(images, images[1], spec)
    assert label is not None
    alone = [preprocess(image, None, own)[0] for image, own in zip(images, spec.contracts, strict=True)]
    starts, ends = ([], [])
    for each in (first, *alone):
        starts.append(int(each.affine[0, 3]))
        ends.append(starts[-1] + each.array.shape[0])
    assert (starts[0], ends[0]) == (starts[2], ends[1])  # from the second one's foreground to the first one's
    assert starts[1] > starts[2] and ends[1] > ends[2]
    assert first.array.shape == second.array.shape == label.array.shape
    np.testing.assert_array_equal(second.array, label.array / 300)
    assert first.array.max() == 1


def test_the_lungs_are_looked_for_in_the_channels_in_hu() -> None:
    ct = Channel("CT", 0, 2, "window", -1024.0, 1024.0)
    spec = replace(PRESETS["chest-ct"], channels=(ct, T2))
    assert [own.crop for own in spec.contracts] == ["lungs", "foreground"]
    with pytest.raises(UserError, match="a crop to the lungs needs a window in HU"):
        replace(spec, channels=(T2,))
    images = [Volume(make_channels(0, 2)[0][..., number], np.eye(4)) for number in range(2)]
    with pytest.raises(UnusableFile, match="its channel CT: no lungs are found"):
        preprocess_channels(images, None, spec)
