"""Formats of numbers."""

import math

from gvsl.report.numbers import MINUS, MISSING, duration, number, percent, plural, plus_minus, short


def test_numbers_have_fixed_places_and_a_true_minus() -> None:
    assert number(0.12345) == "0.123"
    assert number(-0.5, 1) == f"{MINUS}0.5"
    assert number(0.5, 2, signed=True) == "+0.50"
    assert number(-0.0004) == "0.000"
    assert number(-0.0004, signed=True) == "+0.000"
    assert short(-0.00012) == f"{MINUS}0.00012"


def test_what_is_not_there_is_a_dash() -> None:
    assert [number(None), number(math.nan), percent(math.inf), plus_minus(None)] == [MISSING] * 4


def test_shares_durations_and_counts() -> None:
    assert percent(0.01234) == "1.23 %"
    assert plus_minus(0.25, 2) == "± 0.25"
    assert [duration(s) for s in (1.26, 59, 61, 3 * 3600 + 120)] == [
        "1.3 s",
        "59 s",
        "1 min 01 s",
        "3 h 02 min",
    ]
    assert [plural(1, "case"), plural(2, "case")] == ["1 case", "2 cases"]
