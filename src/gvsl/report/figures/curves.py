"""Curves over the steps: the smoothed line strong, the raw one faint."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from gvsl.report.figures.chart import DASHES, INK, NICE_STEPS, chart
from gvsl.report.numbers import plural, short
from gvsl.report.runs import Curve

Array = NDArray[np.float64]

SMOOTHED_SHARE = 0.04
"""The width of the running mean, as a share of the logged values."""
DRAWN_BINS = 240
"""A raw line of more than twice so many values is drawn by the extremes of so many stretches."""
LOGARITHMIC_RATIO = 30.0
"""Where smoothed values, all positive, span more than this ratio, a chart that may be logarithmic is."""


@dataclass(frozen=True)
class Line:
    """One line of a chart."""

    curve: Curve
    colour: str
    dash: str = "solid"
    series: int | None = None
    """The number of the legend's entry that it belongs to."""


def curves_chart(
    lines: Sequence[Line],
    alt: str,
    *,
    may_be_logarithmic: bool = False,
    share: bool = False,
    limit: float | None = None,
    raw: bool = True,
) -> tuple[str, str]:
    """Draw lines over the steps and give the SVG, and a note on what lies off the chart or an empty string.

    `share` writes the values, 0 to 1, as percentages. `limit` is drawn as a line across. Without `raw` there are the
    running means alone, for a chart of many lines.
    """
    shown = [_finite(line.curve) for line in lines]
    smooth = [running_mean(curve.values) for curve in shown]
    logged = [curve.values for curve in shown] if raw else smooth
    logarithmic = may_be_logarithmic and _spans_decades(smooth)
    low, high = _limits(logged, smooth, limit, logarithmic)
    with chart(alt) as (axes, drawn):
        for line, curve, values in zip(lines, shown, smooth, strict=True):
            gid = None if line.series is None else f"series-{line.series}"
            drawn_raw = outline(curve)
            faint = 0.28 if drawn_raw is curve else 0.15  # an outline goes up and down at every stretch, and so fills
            if raw:
                axes.plot(drawn_raw.steps, drawn_raw.values, color=line.colour, alpha=faint, linewidth=0.9, gid=gid)
            thin = _thinned(Curve(curve.steps, values))
            dash = DASHES[line.dash][0]
            axes.plot(thin.steps, thin.values, color=line.colour, linewidth=2.1, linestyle=dash, zorder=4, gid=gid)
        if limit is not None:
            axes.axhline(limit, color=INK, linewidth=1.0, linestyle=(0, (2, 3)))
        axes.set_yscale("log" if logarithmic else "linear")
        axes.set_ylim(low, high)
        axes.margins(x=0.01)
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=NICE_STEPS))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _step_text(value)))
        if share:
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))
        if logarithmic:
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            axes.yaxis.set_major_locator(MaxNLocator(5, steps=NICE_STEPS))
    outside = np.concatenate([values[(values < low) | (values > high)] for values in logged])
    note = ""
    if outside.size:
        extremes = " to ".join(short(value) for value in sorted({outside.min(), outside.max()}))
        note = f"{plural(outside.size, 'raw value')} off the chart ({extremes})."
    return drawn[0], note


def running_mean(values: Array) -> Array:
    """The centred running mean over 4 % of the values; near an end, over what is there of the window."""
    half = round(SMOOTHED_SHARE * values.size) // 2
    sums = np.concatenate([[0.0], np.cumsum(values)])
    place = np.arange(values.size)
    first, last = np.maximum(place - half, 0), np.minimum(place + half + 1, values.size)
    mean: Array = (sums[last] - sums[first]) / (last - first)
    return mean


def outline(curve: Curve) -> Curve:
    """A long curve by the least and the greatest value of each stretch, so that no spike is lost."""
    if curve.values.size <= 2 * DRAWN_BINS:
        return curve
    steps, values = [], []
    for part in np.array_split(np.arange(curve.values.size), DRAWN_BINS):
        pair = sorted((part[curve.values[part].argmin()], part[curve.values[part].argmax()]))
        steps += [curve.steps[place] for place in pair]
        values += [curve.values[place] for place in pair]
    return Curve(np.asarray(steps), np.asarray(values))


def _thinned(curve: Curve) -> Curve:
    """A smooth curve at no more places than can be seen."""
    places = np.unique(np.linspace(0, curve.values.size - 1, 2 * DRAWN_BINS).round().astype(int))
    return curve if curve.values.size <= 2 * DRAWN_BINS else Curve(curve.steps[places], curve.values[places])


def _finite(curve: Curve) -> Curve:
    there = np.isfinite(curve.values)
    return Curve(curve.steps[there], curve.values[there])


def _spans_decades(values: Sequence[Array]) -> bool:
    together = np.concatenate(list(values))
    return bool(together.size and together.min() > 0 and together.max() > LOGARITHMIC_RATIO * together.min())


def _limits(
    raw: Sequence[Array], smooth: Sequence[Array], limit: float | None, logarithmic: bool
) -> tuple[float, float]:
    """The chart's range: all smoothed values, and the raw ones but for the most extreme."""
    together = np.concatenate([*raw, *smooth])
    if not together.size:
        return 0.0, 1.0
    if logarithmic:
        positive = together[together > 0]
        return float(positive.min()) / 1.2, float(positive.max()) * 1.2
    lows = [np.percentile(values, 0.5) for values in raw if values.size]
    lows += [values.min() for values in smooth if values.size]
    highs = [np.percentile(values, 99.5) for values in raw if values.size]
    highs += [values.max() for values in smooth if values.size]
    low, high = float(min(lows)), float(max(highs))
    high = high if limit is None else max(high, 1.25 * limit)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return (0.0 if low >= 0 and low < 0.25 * high else low - room), high + room


def _step_text(value: float) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"
