"""Validation scores over the steps: a line a method, its range over seeds, and where it reaches 95 %."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from gvsl.report.figures.chart import CARD, DASHES, NICE_STEPS, chart
from gvsl.report.figures.linked import gid

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Learning:
    """One method's scores."""

    place: int
    """The number of its entry in the legend."""
    colour: str
    dash: str
    steps: Array
    mean: Array
    low: Array
    high: Array
    """The least and the greatest over seeds; as the mean where there is one."""
    reached: float | None
    """The step at 95 % of the best, a mean over seeds."""


def learning_chart(lines: Sequence[Learning], limits: tuple[float, float], alt: str, score: str) -> str:
    """Draw the methods' lines and give the SVG; a diamond marks where each reaches 95 % of its best."""
    with chart(alt) as (axes, drawn):
        for line in lines:
            name, dash = gid(line.place), DASHES[line.dash][0]
            if (line.high > line.low).any():
                axes.fill_between(line.steps, line.low, line.high, color=line.colour, alpha=0.18, linewidth=0, gid=name)
            alone = "o" if line.steps.size == 1 else None  # a single score draws no line
            axes.plot(
                line.steps,
                line.mean,
                color=line.colour,
                linewidth=2.1,
                linestyle=dash,
                marker=alone,
                zorder=4,
                gid=name,
            )
            if line.reached is not None and line.steps.size:
                height = float(np.interp(line.reached, line.steps, line.mean))
                axes.plot(
                    [line.reached],
                    [height],
                    marker="D",
                    markersize=7.5,
                    markerfacecolor=line.colour,
                    markeredgecolor=CARD,
                    zorder=5,
                    gid=name,
                )
        axes.set_ylim(*limits)
        axes.margins(x=0.02)
        axes.set_xlabel("step")
        axes.set_ylabel(f"validation {score}")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=NICE_STEPS))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=NICE_STEPS))
    return drawn[0]
