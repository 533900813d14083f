"""Draw scores of several methods as lines, each with the range over its seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator

from gvsl.report.figures.chart import CARD, DASHES, NICE_STEPS, gid
from gvsl.report.run_arrays import Array


@dataclass(frozen=True)
class ScoreLine:
    """The scores of one method; the arrays are (N,)."""

    place: int
    """The number of its legend entry."""
    colour: str
    dash: str
    x: Array
    """Training steps, or numbers of labelled cases."""
    mean: Array
    low: Array
    high: Array
    """Minimum and maximum over seeds; equal to the mean for a single seed."""
    reached: float | None = None
    """The step at which 95 % of the best score is reached, a mean over seeds."""


def draw_scores_by_step(axes: Axes, lines: Sequence[ScoreLine], limits: tuple[float, float], score: str) -> None:
    """Draw validation scores over the steps; a diamond marks where each line reaches 95 % of its best."""
    for line in lines:
        _draw_line(axes, line, marker="o" if line.x.size == 1 else None)  # a single score draws no line
        if line.reached is not None and line.x.size:
            height = float(np.interp(line.reached, line.x, line.mean))
            diamond: dict[str, Any] = {"markersize": 7.5, "color": line.colour, "markeredgecolor": CARD}
            axes.plot([line.reached], [height], marker="D", zorder=5, gid=gid(line.place), **diamond)
    axes.set_ylim(*limits)
    axes.margins(x=0.02)
    axes.set_xlabel("step")
    axes.set_ylabel(f"validation {score}")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=NICE_STEPS))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=NICE_STEPS))


def draw_scores_by_labels(axes: Axes, lines: Sequence[ScoreLine], score: str) -> None:
    """Draw test scores over the number of labelled cases, on a logarithmic axis."""
    for line in lines:
        _draw_line(axes, line, marker="o")
    ticks = sorted({int(count) for line in lines for count in line.x})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [str(count) for count in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.04)
    axes.set_xlabel("labelled cases")
    axes.set_ylabel(f"test {score}")
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=NICE_STEPS))


def _draw_line(axes: Axes, line: ScoreLine, marker: str | None) -> None:
    """Draw the mean, and the range over seeds as a band around it."""
    name = gid(line.place)
    axes.fill_between(line.x, line.low, line.high, color=line.colour, alpha=0.18, linewidth=0, gid=name)
    look: dict[str, Any] = {"color": line.colour, "linestyle": DASHES[line.dash][0], "linewidth": 2.1}
    axes.plot(line.x, line.mean, marker=marker, markersize=4.5, zorder=4, gid=name, **look)
