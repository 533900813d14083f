"""Draw groups of points in a plane without axes, each with its colour and marker."""

from itertools import product

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from gvsl.report.figures.chart import MARKERS, SERIES, gid

LOOKS = tuple((colour, marker) for marker, colour in product(MARKERS, SERIES))
"""Colour and marker of each group: all colours with the first marker, then with the next."""


def draw_scatter(axes: Axes, points: NDArray[np.float64], groups: NDArray[np.int64], places: dict[int, int]) -> None:
    """Draw points (N, 2); `places` maps each group to the number of its legend entry, which gives its look."""
    for group, place in places.items():
        x, y = points[groups == group].T
        colour, marker = LOOKS[place % len(LOOKS)]
        axes.scatter(x, y, s=13, marker=marker, color=colour, alpha=0.75, linewidth=0, gid=gid(place))
    axes.set_axis_off()
    axes.margins(0.03)
