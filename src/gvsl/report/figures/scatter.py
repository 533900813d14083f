"""Points in a plane that has no axes, each group by its colour and its marker."""

from itertools import product

import numpy as np
from numpy.typing import NDArray

from gvsl.report.figures.chart import SERIES, chart
from gvsl.report.figures.linked import MARKERS, gid

LOOKS = tuple((colour, marker) for marker, colour in product(MARKERS, SERIES))
"""Colour and marker of each group: all colours first, then the same with another marker."""


def scatter_chart(points: NDArray[np.float64], groups: NDArray[np.int64], places: dict[int, int], alt: str) -> str:
    """Draw points (N, 2) and give the SVG; `places` has the number of each group's legend entry, and so its look."""
    with chart(alt) as (axes, drawn):
        for group, place in places.items():
            mine = points[groups == group]
            colour, marker = LOOKS[place % len(LOOKS)]
            axes.scatter(
                mine[:, 0], mine[:, 1], s=13, marker=marker, color=colour, alpha=0.75, linewidth=0, gid=gid(place)
            )
        axes.set_axis_off()
        axes.margins(0.03)
    return drawn[0]
