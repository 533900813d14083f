"""Curves: the running mean, the outline of long raw lines, and what lies off the chart."""

import numpy as np

from gvsl.report.figures.chart import SERIES
from gvsl.report.figures.curves import DRAWN_BINS, Line, curves_chart, outline, running_mean
from gvsl.report.runs import Curve


def test_running_mean_is_the_mean_of_each_window() -> None:
    values = np.random.default_rng(0).standard_normal(101)
    plain = [values[max(0, place - 2) : place + 3].mean() for place in range(101)]
    np.testing.assert_allclose(running_mean(values), plain, atol=1e-12)
    np.testing.assert_array_equal(running_mean(values[:5]), values[:5])


def test_outline_loses_no_spike() -> None:
    steps = np.arange(50_000.0)
    values = np.sin(steps)
    values[12_345], values[40_000] = 9.0, -9.0
    found = outline(Curve(steps, values))
    assert found.values.size == 2 * DRAWN_BINS
    assert found.steps[found.values.argmax()] == 12_345
    assert found.steps[found.values.argmin()] == 40_000
    assert (np.diff(found.steps) >= 0).all()


def test_a_short_curve_is_drawn_as_it_is() -> None:
    curve = Curve(np.arange(9.0), np.arange(9.0))
    assert outline(curve) is curve


def test_values_off_the_chart_are_said() -> None:
    values = np.linspace(1.0, 0.5, 1000)
    values[500] = 40.0
    _, note = curves_chart([Line(Curve(np.arange(1000.0), values), SERIES[0])], "x")
    assert note == "1 raw value off the chart (40)."


def test_gaps_single_values_and_nothing_finite_are_drawn() -> None:
    for values in ([np.nan, np.nan], [1.0], [1.0, np.nan, 2.0], [0.0, 0.0]):
        curve = Curve(np.arange(float(len(values))), np.array(values))
        svg, note = curves_chart([Line(curve, SERIES[0])], "x", may_be_logarithmic=True)
        assert svg.startswith("<svg")
        assert note == ""


def test_wide_positive_ranges_are_logarithmic() -> None:
    curve = Curve(np.arange(100.0), np.logspace(2, -2, 100))
    svg, _ = curves_chart([Line(curve, SERIES[0])], "x", may_be_logarithmic=True)
    assert ">0.01<" in svg.replace("\n", "")
    assert ">100<" in svg.replace("\n", "")
