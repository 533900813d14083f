"""Dots: one for every case that has a figure, ranges from tick to tick."""

import numpy as np
import pytest

from gvsl.report.figures.chart import SERIES
from gvsl.report.figures.dots import Column, common_limits, dots_chart, tick_step


def dots(table: np.ndarray) -> int:
    """How many dots a chart of two columns of the same table has."""
    columns = [Column("a", SERIES[0], table), Column("b", SERIES[1], table)]
    return dots_chart(columns, (0.0, 1.0), "x").count("<use ")


def test_every_case_with_a_figure_has_its_dot() -> None:
    table = np.random.default_rng(0).uniform(0.2, 0.8, (3, 10))
    assert dots(np.full((1, 1), np.nan)) == 0
    assert dots(table) == 2 * 10
    table[:, 4] = np.nan
    assert dots(table) == 2 * 9
    table[0, 5] = np.nan
    assert dots(table) == 2 * 9  # the other runs have it
    assert dots(table[:1]) == 2 * 8


def test_means_are_written() -> None:
    for count in (1, 2, 3):
        columns = [Column(f"m{place}", SERIES[place], np.array([[0.25, 0.5]])) for place in range(count)]
        assert dots_chart(columns, (0.0, 1.0), "x").count("0.375") == count


@pytest.mark.parametrize(("low", "high", "step"), [(0.0, 1.0, 0.2), (0.41, 0.79, 0.1), (0.5, 0.5, 0.01), (0, 50, 10)])
def test_tick_steps_are_round(low: float, high: float, step: float) -> None:
    assert tick_step(low, high) == pytest.approx(step)


def test_limits_hold_all_values() -> None:
    low, high = common_limits([np.array([[0.43, np.nan]]), np.array([[0.78]])])
    assert (low, high) == pytest.approx((0.4, 0.8))
    assert common_limits([np.array([[np.nan]])]) == (0.0, 1.0)
    low, high = common_limits([np.zeros((1, 3))])
    assert low <= 0 < high
