"""Draw a dot for every case, joined across the kinds of features, beside the means of the seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MultipleLocator

from gvsl.report.figures.chart import CARD, INK, MUTED, chart_svg
from gvsl.report.numbers import number
from gvsl.report.run_arrays import Array
from gvsl.report.scores import case_means, row_means

BESIDE_AT_MOST = 2
"""Up to so many columns have their mean written beside them; more have it below their names."""
NAMED_AT_MOST = 4
"""Up to so many columns have level names, lines between cases, and means written out; more have none of these."""
MIN_RANGE = 0.05
"""Minimum range of the axis, for values that are all equal."""
SPREAD = 0.25
"""Maximum distance of a case's dot from the middle of its column, in columns."""


@dataclass(frozen=True)
class Column:
    """One kind of features: a name for the axis, a colour, and a table (runs, cases)."""

    name: str
    colour: str
    table: Array


def common_limits(tables: Sequence[Array]) -> tuple[float, float]:
    """Return one range, from tick to tick, that holds the values of several charts."""
    values = np.concatenate([table[np.isfinite(table)].ravel() for table in tables])
    if not values.size:
        return 0.0, 1.0
    step = tick_step(float(values.min()), float(values.max()))
    low, high = math.floor(values.min() / step) * step, math.ceil(values.max() / step) * step
    return low, max(high, low + step)


def tick_step(low: float, high: float) -> float:
    """Return the distance of ticks that splits a range into about five."""
    rough = max(high - low, MIN_RANGE) / 5
    scale = 10.0 ** math.floor(math.log10(rough))
    return next((step * scale for step in (1, 2, 5) if step * scale >= rough), 10 * scale)


def dots_chart(columns: Sequence[Column], limits: tuple[float, float], alt: str, digits: int = 3) -> str:
    """Draw a column of dots for each kind of features, over the same cases, and return the SVG.

    A dot is the mean of a case over the runs, and its thin bar the range; a line joins the dots of a case. The diamonds
    beside a column are the means of its runs; the horizontal line and the number are the mean of all. If there are
    many columns, the lines between cases and the numbers are left out, since they would overlap.
    """
    means = [case_means(column.table) for column in columns]
    offsets = _offsets(means)
    crowded = len(columns) > NAMED_AT_MOST

    def draw(axes: Axes) -> None:
        for place, (here, there) in enumerate(() if crowded else pairwise(means)):
            both = np.isfinite(here) & np.isfinite(there)
            x = np.stack([place + offsets[both], place + 1 + offsets[both]])
            axes.plot(x, np.stack([here[both], there[both]]), color=MUTED, alpha=0.35, linewidth=0.8)
        for place, (column, mean) in enumerate(zip(columns, means, strict=True)):
            seen = np.isfinite(mean)
            x = place + offsets[seen]
            table = column.table[:, seen]
            low, high = np.nanmin(table, axis=0), np.nanmax(table, axis=0)
            axes.vlines(x, low, high, color=column.colour, alpha=0.45, linewidth=1.2)
            size = 12 if crowded else 24
            axes.scatter(x, mean[seen], s=size, color=column.colour, edgecolor=CARD, linewidth=0.7, zorder=3)
            outwards = -1 if place == 0 and len(columns) > 1 else 1
            beside = place + outwards * (SPREAD + 0.14)
            seeds = row_means(column.table)
            if seeds.size > 1:
                x = np.full(seeds.shape, beside)
                axes.scatter(x, seeds, s=20, marker="D", facecolor="none", edgecolor=column.colour, zorder=4)
            if seen.any():
                centre = float(mean[seen].mean())
                axes.hlines(centre, place - SPREAD - 0.06, place + SPREAD + 0.06, color=INK, linewidth=1.6, zorder=5)
                if not crowded:
                    _write_mean(axes, place, centre, digits, outwards if len(columns) <= BESIDE_AT_MOST else 0)
        axes.set_xlim(-0.85, len(columns) - 1 + 0.85)
        margin = 0.03 * (limits[1] - limits[0])  # keeps a dot on the border whole
        axes.set_ylim(limits[0] - margin, limits[1] + margin)
        axes.yaxis.set_major_locator(MultipleLocator(tick_step(*limits)))
        axes.set_xticks(range(len(columns)), [column.name for column in columns], rotation=90 if crowded else 0)
        axes.tick_params(axis="x", length=0, labelcolor=INK)
        axes.spines["bottom"].set_visible(False)  # the grid line of the lowest tick serves

    return chart_svg(draw, alt, width=320, height=320 if crowded else 250)


def _write_mean(axes: Axes, place: int, mean: float, digits: int, outwards: int) -> None:
    """Write a mean to the left (-1) or right (1) of its column, or below the column's name (0)."""
    text = number(mean, digits)
    font: dict[str, Any] = {"textcoords": "offset points", "fontweight": "bold", "zorder": 6}
    if outwards:
        spot, side = (place + outwards * (SPREAD + 0.14), mean), "right" if outwards < 0 else "left"
        axes.annotate(text, spot, (outwards * 8, 0), ha=side, va="center", fontsize=13, **font)
    else:
        below = ("data", "axes fraction")
        axes.annotate(text, (place, 0), (0, -19), xycoords=below, ha="center", va="top", fontsize=12, **font)


def _offsets(means: Sequence[Array]) -> Array:
    """Return the horizontal offset of each case, by its rank in the first column; the same in every column."""
    first = np.where(np.isfinite(means[0]), means[0], np.inf)
    if first.size < 2:
        return np.zeros(first.size)
    rank = first.argsort(kind="stable").argsort(kind="stable")
    offsets: Array = SPREAD * (2 * rank / (first.size - 1) - 1)
    return offsets
