from dataclasses import asdict
from typing import Any

import pytest

from gvsl.errors import UserError
from gvsl.preprocessing import PRESETS, Preprocessing, parse_preprocessing, preprocessing_values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"spacing": 0}, "spacing is 0 mm"),
        ({"spacing": float("nan")}, "spacing is nan mm"),
        ({"spacing": (0.8, 0.8, 0)}, "spacing is 0.8 0.8 0 mm"),
        ({"lower": 60, "upper": 40}, "lower must be the smaller"),
        ({"lower": -5}, "percentiles run from 0 to 100"),
        ({"upper": 101}, "percentiles run from 0 to 100"),
        ({"margin": -1}, "margin is -1"),
        ({"orientation": "LPS"}, "orientation is 'LPS'; it can be RAS"),
        ({"intensity": "z"}, "it can be percentiles or window"),
        ({"crop": "brain"}, "it can be foreground or lungs or none"),
    ],
)
def test_invalid_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Preprocessing(**values)


@pytest.mark.parametrize(
    "spec", [*PRESETS.values(), Preprocessing(spacing=2, crop="none", margin=0), Preprocessing(spacing=(0.8, 0.8, 3))]
)
def test_a_spec_round_trips(spec: Preprocessing) -> None:
    assert parse_preprocessing(asdict(spec)) == spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flavour": 1}, "lack or add flavour"),
        ({"spacing": "1"}, "spacing is '1', not float"),
        ({"margin": 1.5}, "margin is 1.5, not int"),
        ({"margin": True}, "margin is True, not int"),
    ],
)
def test_unknown_and_mistyped_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_preprocessing({**asdict(PRESETS["mr"]), **change})


def test_missing_settings_are_refused() -> None:
    values = asdict(PRESETS["ct"])
    del values["upper"]
    with pytest.raises(UserError, match="lack or add upper"):
        parse_preprocessing(values)


def test_three_equal_spacings_are_one() -> None:
    assert preprocessing_values(Preprocessing(spacing=(2.0, 2.0, 2.0))) == preprocessing_values(
        Preprocessing(spacing=2.0)
    )
    assert Preprocessing(spacing=(1, 1, 3)).voxel == (1, 1, 3)
    assert Preprocessing(spacing=2.0).voxel == (2, 2, 2)
    with pytest.raises(UserError, match="spacing"):
        parse_preprocessing({**preprocessing_values(Preprocessing()), "spacing": [1.0, 2.0]})


def test_a_preset_that_gvsl_does_not_have_is_left_out() -> None:
    values = preprocessing_values(PRESETS["ct"])
    assert parse_preprocessing(values).preset == "ct"
    found = parse_preprocessing({**values, "preset": "$exit()"})
    assert found == PRESETS["ct"] and found.preset == ""
