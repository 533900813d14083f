"""Dots for every case, joined across the kinds of features, with the means of the seeds beside them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MultipleLocator
from numpy.typing import NDArray

from gvsl.report.figures.chart import CARD, INK, MUTED, chart
from gvsl.report.numbers import number
from gvsl.report.scores import case_means, row_means

Array = NDArray[np.float64]

BESIDE_AT_MOST = 2
"""With more columns than these, means are written under the columns' names: beside them is no room."""
NAMED_AT_MOST = 4
"""With more columns than these, names stand upright, and neither lines between cases nor means are written."""
NARROWEST = 0.05
"""The narrowest range that ticks are made for; equal values still need an axis."""
SPREAD = 0.25
"""How far from a column's middle a case's dot may lie, in columns."""


@dataclass(frozen=True)
class Column:
    """One kind of features: a name for the axis, a colour, and a table (runs, cases)."""

    name: str
    colour: str
    table: Array


def common_limits(tables: Sequence[Array]) -> tuple[float, float]:
    """One range, from tick to tick, that holds all values of several charts."""
    values = np.concatenate([table[np.isfinite(table)].ravel() for table in tables])
    if not values.size:
        return 0.0, 1.0
    step = tick_step(float(values.min()), float(values.max()))
    low, high = math.floor(values.min() / step) * step, math.ceil(values.max() / step) * step
    return low, max(high, low + step)


def tick_step(low: float, high: float) -> float:
    """The distance of ticks that splits a range into about five."""
    rough = max(high - low, NARROWEST) / 5
    scale = 10.0 ** math.floor(math.log10(rough))
    return next((step * scale for step in (1, 2, 5) if step * scale >= rough), 10 * scale)


def dots_chart(columns: Sequence[Column], limits: tuple[float, float], alt: str, digits: int = 3) -> str:
    """Draw a column of dots for each kind of features, all tables over the same cases.

    A dot is a case (mean over the runs), its thin bar the range over the runs, a line joins a case's dots.
    The diamonds beside a column are its runs' means, the line across and the number the mean of all.
    Many columns have neither lines between cases nor numbers, which would lie upon each other.
    """
    means = [case_means(column.table) for column in columns]
    offsets = _offsets(means)
    crowded = len(columns) > NAMED_AT_MOST
    with chart(alt, width=320, height=320 if crowded else 250) as (axes, drawn):
        for place, (here, there) in enumerate(() if crowded else pairwise(means)):
            both = np.isfinite(here) & np.isfinite(there)
            x = np.stack([place + offsets[both], place + 1 + offsets[both]])
            axes.plot(x, np.stack([here[both], there[both]]), color=MUTED, alpha=0.35, linewidth=0.8)
        for place, (column, mean) in enumerate(zip(columns, means, strict=True)):
            seen = np.isfinite(mean)
            x = place + offsets[seen]
            low, high = _range(column.table[:, seen])
            axes.vlines(x, low, high, color=column.colour, alpha=0.45, linewidth=1.2)
            axes.scatter(
                x, mean[seen], s=12 if crowded else 24, color=column.colour, edgecolor=CARD, linewidth=0.7, zorder=3
            )
            outwards = -1 if place == 0 and len(columns) > 1 else 1
            beside = place + outwards * (SPREAD + 0.14)
            seeds = row_means(column.table)
            if seeds.size > 1:
                axes.scatter(
                    np.full(seeds.shape, beside),
                    seeds,
                    s=20,
                    marker="D",
                    facecolor="none",
                    edgecolor=column.colour,
                    zorder=4,
                )
            if seen.any():
                centre = float(mean[seen].mean())
                axes.hlines(centre, place - SPREAD - 0.06, place + SPREAD + 0.06, color=INK, linewidth=1.6, zorder=5)
                if len(columns) <= BESIDE_AT_MOST:
                    _write_beside(axes, beside, centre, outwards, digits)
                elif not crowded:
                    _write_below(axes, place, centre, digits)
        axes.set_xlim(-0.85, len(columns) - 1 + 0.85)
        room = 0.03 * (limits[1] - limits[0])  # a dot on the border is whole
        axes.set_ylim(limits[0] - room, limits[1] + room)
        axes.yaxis.set_major_locator(MultipleLocator(tick_step(*limits)))
        axes.set_xticks(range(len(columns)), [column.name for column in columns], rotation=90 if crowded else 0)
        axes.tick_params(axis="x", length=0, labelcolor=INK)
        axes.spines["bottom"].set_visible(False)  # the lowest tick's line is there already
    return drawn[0]


def _write_beside(axes: Axes, across: float, value: float, outwards: int, digits: int) -> None:
    """Write a mean on the outer side of its column."""
    axes.annotate(
        number(value, digits),
        (across, value),
        xytext=(outwards * 8, 0),
        textcoords="offset points",
        ha="right" if outwards < 0 else "left",
        va="center",
        fontsize=13,
        fontweight="bold",
        zorder=6,
    )


def _write_below(axes: Axes, place: int, value: float, digits: int) -> None:
    """Write a mean under its column's name."""
    axes.annotate(
        number(value, digits),
        (place, 0),
        xycoords=("data", "axes fraction"),
        xytext=(0, -19),
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize=12,
        fontweight="bold",
    )


def _offsets(means: Sequence[Array]) -> Array:
    """Each case's place about the middle of its column, by its rank in the first, alike in every column."""
    first = np.where(np.isfinite(means[0]), means[0], np.inf)
    count = first.size
    rank = first.argsort(kind="stable").argsort(kind="stable")
    if count < 2:
        return np.zeros(count)
    offsets: Array = SPREAD * (2 * rank / (count - 1) - 1)
    return offsets


def _range(table: Array) -> tuple[Array, Array]:
    """The least and the greatest value of every case over the runs that have one."""
    return np.nanmin(table, axis=0), np.nanmax(table, axis=0)
