"""Draw curves over the steps: the running mean as a strong line, the logged values as a faint one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from gvsl.report.figures.chart import DASHES, INK, NICE_STEPS, Drawing, chart_svg, gid
from gvsl.report.numbers import plural, short
from gvsl.report.run_arrays import Array
from gvsl.report.runs import Curve

SMOOTHING_FRACTION = 0.04
"""Width of the running mean as a fraction of the logged values."""
DRAWN_BINS = 240
"""A raw line of more than twice this many values is drawn by the minimum and maximum of this many bins."""
LOGARITHMIC_RATIO = 30.0
"""The axis becomes logarithmic, where allowed, if positive smoothed values span more than this ratio."""


@dataclass(frozen=True)
class Line:
    """One line of a chart."""

    curve: Curve
    colour: str
    dash: str = "solid"
    series: int | None = None
    """The number of its legend entry."""


def curves_chart(lines: Sequence[Line], alt: str, **options: Any) -> tuple[str, str]:
    """Return the SVG of `curves_drawing`, and its note."""
    draw, note = curves_drawing(lines, **options)
    return chart_svg(draw, alt), note


def curves_drawing(
    lines: Sequence[Line],
    *,
    may_be_logarithmic: bool = False,
    as_percentage: bool = False,
    limit: float | None = None,
    raw: bool = True,
) -> tuple[Drawing, str]:
    """Return a drawing of lines over the steps, and a note on values outside the chart (may be empty).

    Args:
        lines: to draw.
        may_be_logarithmic: use a logarithmic axis if the values span decades.
        as_percentage: label values from 0 to 1 as percentages.
        limit: draw a horizontal line at this value.
        raw: draw the logged values too, not the running means alone.
    """
    logged = [line.curve.finite() for line in lines]
    means = [running_mean(curve.values) for curve in logged]
    shown = [curve.values for curve in logged] if raw else means
    logarithmic = may_be_logarithmic and _spans_decades(means)
    low, high = _limits(shown, means, limit, logarithmic)

    def draw(axes: Axes) -> None:
        for line, curve, mean in zip(lines, logged, means, strict=True):
            name = None if line.series is None else gid(line.series)
            if raw:
                drawn = outline(curve)
                faint = 0.28 if drawn is curve else 0.15  # an outline covers more area than a line
                axes.plot(drawn.steps, drawn.values, color=line.colour, alpha=faint, linewidth=0.9, gid=name)
            thin = _thinned(Curve(curve.steps, mean))
            look: dict[str, Any] = {"color": line.colour, "linewidth": 2.1, "linestyle": DASHES[line.dash][0]}
            marker = "o" if mean.size == 1 else None  # a single value draws no line
            axes.plot(thin.steps, thin.values, marker=marker, zorder=4, gid=name, **look)
        if limit is not None:
            axes.axhline(limit, color=INK, linewidth=1.0, linestyle=(0, (2, 3)))
        axes.set_yscale("log" if logarithmic else "linear")
        axes.set_ylim(low, high)
        axes.margins(x=0.01)
        steps = np.unique(np.concatenate([curve.steps for curve in logged]))
        if steps.size == 1:
            axes.set_xlim(steps[0] - 1, steps[0] + 1)
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=NICE_STEPS))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _step_text(value)))
        if as_percentage:
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))
        if logarithmic:
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            axes.yaxis.set_major_locator(MaxNLocator(5, steps=NICE_STEPS))

    outside = np.concatenate([values[(values < low) | (values > high)] for values in shown])
    if not outside.size:
        return draw, ""
    extremes = " to ".join(short(value) for value in sorted({outside.min(), outside.max()}))
    return draw, f"{plural(outside.size, 'raw value')} off the chart ({extremes})."


def running_mean(values: Array) -> Array:
    """Return the centred running mean over 4 % of the values; the window is cut off at the ends."""
    half = round(SMOOTHING_FRACTION * values.size) // 2
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(values.size)
    first, last = np.maximum(index - half, 0), np.minimum(index + half + 1, values.size)
    mean: Array = (sums[last] - sums[first]) / (last - first)
    return mean


def outline(curve: Curve) -> Curve:
    """Reduce a long curve to the minimum and maximum of each bin, so that no spike is lost."""
    if curve.values.size <= 2 * DRAWN_BINS:
        return curve
    bins = np.array_split(np.arange(curve.values.size), DRAWN_BINS)
    kept = [sorted((part[curve.values[part].argmin()], part[curve.values[part].argmax()])) for part in bins]
    indices = np.concatenate(kept)
    return Curve(curve.steps[indices], curve.values[indices])


def _thinned(curve: Curve) -> Curve:
    """Reduce a smooth curve to as many values as can be seen."""
    if curve.values.size <= 2 * DRAWN_BINS:
        return curve
    indices = np.unique(np.linspace(0, curve.values.size - 1, 2 * DRAWN_BINS).round().astype(int))
    return Curve(curve.steps[indices], curve.values[indices])


def _spans_decades(values: Sequence[Array]) -> bool:
    together = np.concatenate(list(values))
    return bool(together.size and together.min() > 0 and together.max() > LOGARITHMIC_RATIO * together.min())


def _limits(
    shown: Sequence[Array], means: Sequence[Array], limit: float | None, logarithmic: bool
) -> tuple[float, float]:
    """Return the range of the axis: all running means, and the shown values but for the most extreme 1 %."""
    together = np.concatenate([*shown, *means])
    if not together.size:
        return 0.0, 1.0
    if logarithmic:
        positive = together[together > 0]
        return float(positive.min()) / 1.2, float(positive.max()) * 1.2
    ends = [np.percentile(values, (0.5, 99.5)) for values in shown if values.size]
    ends += [np.array([values.min(), values.max()]) for values in means if values.size]
    low, high = float(np.min(ends)), float(np.max(ends))
    high = high if limit is None else max(high, 1.25 * limit)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return (0.0 if low >= 0 and low < 0.25 * high else low - margin), high + margin


def _step_text(value: float) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"
