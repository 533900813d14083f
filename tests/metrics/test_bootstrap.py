import numpy as np
import pytest

from gvsl.metrics.bootstrap import (
    bootstrap,
    draw_counts,
    draw_indices,
    interval_of,
    mean_with_interval,
    percentile_interval,
    recorded_interval,
    steps_to_fraction,
    steps_to_level,
)


def test_the_interval_of_a_mean_is_what_theory_says_of_many_cases() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    found = mean_with_interval("dice", values.tolist())
    error = values.std() / 20
    assert found["dice"] == pytest.approx(values.mean())
    assert found["dice_low"] == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert found["dice_high"] == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


@pytest.mark.parametrize("values", [[0.5], [0.1, 0.3], [0.1, 0.3, 0.8], [0.1, 0.3, 0.8, 0.8]])
def test_fewer_than_five_cases_have_no_interval(values: list[float]) -> None:
    assert mean_with_interval("x", values) == {"x": pytest.approx(np.mean(values))}
    recorded = {"x": 0.5, "x_low": 0.1, "x_high": 0.8}  # by a gvsl that gave them one
    assert recorded_interval(recorded, "x", len(values)) is None
    assert recorded_interval(recorded, "x", 5) == (0.1, 0.8)
    assert recorded_interval({"x": 0.5}, "x", 5) is None


def test_a_statistic_that_no_draw_defines_has_no_interval() -> None:
    assert interval_of(9, [np.nan, np.nan]) is None
    assert interval_of(9, [0.25, np.nan]) == (0.25, 0.25)


def test_runs_on_as_many_cases_share_their_draws() -> None:
    first = mean_with_interval("x", [0.1, 0.4, 0.9, 0.2, 0.3])
    second = mean_with_interval("x", [1.1, 1.4, 1.9, 1.2, 1.3])
    assert second["x_low"] == pytest.approx(first["x_low"] + 1)


@pytest.mark.parametrize("count", [1, 2, 3, 8, 9, 129])
def test_all_draws_at_once_are_those_of_one_after_the_other(count: int) -> None:
    generator = np.random.default_rng(0)
    one_by_one = [generator.integers(count, size=count) for _ in range(2000)]
    assert (draw_indices(count) == one_by_one).all()
    if count < 5:
        return
    values = np.random.default_rng(1).random(count)
    found = mean_with_interval("x", values.tolist())
    assert (found["x_low"], found["x_high"]) == bootstrap(count, lambda drawn: float(values[drawn].mean()))


def test_draws_without_a_value_are_left_out() -> None:
    low, high = bootstrap(3, lambda drawn: float(drawn.mean()) if len(set(drawn.tolist())) == 3 else np.nan)
    assert low == high == 1.0
    assert np.isnan(bootstrap(3, lambda _: np.nan)).all()


def test_counts_are_of_the_same_draws() -> None:
    values = np.random.default_rng(1).random(7)
    counts = draw_counts(7)
    assert (counts.sum(axis=1) == 7).all()
    found = mean_with_interval("x", values.tolist())
    assert percentile_interval(counts @ values / 7) == pytest.approx((found["x_low"], found["x_high"]))


def test_the_first_step_near_the_best() -> None:
    assert steps_to_fraction([40, 60, 80], [0.5, 0.955, 1.0]) == 60
    assert steps_to_fraction([5, 10], [0.0, 0.0]) == 5
    assert steps_to_fraction([5, 10], [-2.0, -1.0]) is None
    assert steps_to_level([40, 60, 80], np.array([0.5, 0.955, 1.0]), 0.5) == 40
    assert steps_to_level([40], [0.5], 0.6) is None
