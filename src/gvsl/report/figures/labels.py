"""Test scores against the number of labels: a line a method and mode, and the range over its seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator, NullLocator

from gvsl.report.figures.chart import DASHES, NICE_STEPS, chart
from gvsl.report.figures.linked import gid


@dataclass(frozen=True)
class LabelLine:
    """One line."""

    place: int
    """The number of its entry in the legend."""
    colour: str
    dash: str
    labels: Sequence[int]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    """The least and the greatest over seeds; as the mean where there is one."""


def labels_chart(lines: Sequence[LabelLine], alt: str, score: str) -> str:
    """Draw the lines over a logarithmic axis, on which labels are doubled in equal steps, and give the SVG."""
    with chart(alt) as (axes, drawn):
        for line in lines:
            name = gid(line.place)
            axes.fill_between(line.labels, line.low, line.high, color=line.colour, alpha=0.18, linewidth=0, gid=name)
            axes.plot(
                line.labels,
                line.mean,
                color=line.colour,
                linewidth=2.1,
                linestyle=DASHES[line.dash][0],
                marker="o",
                markersize=4.5,
                zorder=4,
                gid=name,
            )
        ticks = sorted({count for line in lines for count in line.labels})
        axes.set_xscale("log")
        axes.set_xticks(ticks, [str(count) for count in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.margins(x=0.04)
        axes.set_xlabel("labelled cases")
        axes.set_ylabel(f"test {score}")
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=NICE_STEPS))
    return drawn[0]
