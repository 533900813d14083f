import numpy as np
import pytest

from gvsl.metrics.bootstrap import bootstrap, mean_with_interval, steps_to_share


def test_the_interval_of_a_mean_is_what_theory_says_of_many_cases() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    found = mean_with_interval("dice", values.tolist())
    error = values.std() / 20
    assert found["dice"] == pytest.approx(values.mean())
    assert found["dice_low"] == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert found["dice_high"] == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_one_case_has_an_interval_of_nothing() -> None:
    assert mean_with_interval("x", [0.5]) == {"x": 0.5, "x_low": 0.5, "x_high": 0.5}


def test_runs_on_as_many_cases_share_their_draws() -> None:
    first = mean_with_interval("x", [0.1, 0.4, 0.9])
    second = mean_with_interval("x", [1.1, 1.4, 1.9])
    assert second["x_low"] == pytest.approx(first["x_low"] + 1)


def test_draws_without_the_figure_are_left_out() -> None:
    low, high = bootstrap(3, lambda drawn: float(drawn.mean()) if len(set(drawn.tolist())) == 3 else None)
    assert low == high == 1.0


def test_the_first_step_near_the_best() -> None:
    rows = [{"step": 20, "loss": 1.0}, {"step": 40, "v": 0.5}, {"step": 60, "v": 0.955}, {"step": 80, "v": 1.0}]
    assert steps_to_share(rows, "v") == 60
    assert steps_to_share([{"step": 5, "v": 0.0}, {"step": 10, "v": 0.0}], "v") == 5
