"""Write panels as a PDF for LaTeX: vector graphics with embedded fonts."""

import textwrap
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from gvsl.files import whole_file
from gvsl.report.figures.chart import DASHES, MUTED, STYLE
from gvsl.report.panels import Block, Entry

COLUMNS = 3
PANEL_WIDTH, PANEL_HEIGHT, HEAD_HEIGHT = 3.4, 3.2, 1.0
"""Sizes in inches; a head is the title, note and legend of a block."""
LETTERS = 40
"""Maximum number of letters in a line over the width of a panel."""
SMALL = 9
"""Font size of captions, notes and legends in points."""


def write_pdf(path: Path, title: str, blocks: Sequence[Block]) -> None:
    """Write blocks below each other on one page; the same blocks give the same bytes."""
    with mpl.rc_context({**STYLE, "pdf.fonttype": 42, "font.size": 10}), whole_file(path) as temporary:
        metadata = {"Title": title, "CreationDate": None, "Creator": None, "Producer": None}
        FigureCanvasPdf(panels_figure(blocks)).print_pdf(temporary, metadata=metadata)


def panels_figure(blocks: Sequence[Block]) -> Figure:
    """Draw blocks below each other."""
    heights = [HEAD_HEIGHT + PANEL_HEIGHT * ceil(len(block.panels) / COLUMNS) for block in blocks]
    columns = min(COLUMNS, max(len(block.panels) for block in blocks))
    figure = Figure(figsize=(PANEL_WIDTH * columns, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(blocks), height_ratios=heights, squeeze=False).flat
    for part, block in zip(parts, blocks, strict=True):
        _draw_block(part, block, columns)
    return figure


def _draw_block(part: SubFigure, block: Block, columns: int) -> None:
    """Draw the title and note of a block, its panels, and one legend for all of them."""
    note = _wrap(block.note, LETTERS * columns)
    part.suptitle(f"{block.title}\n{note}".strip(), x=0.01, horizontalalignment="left", fontsize=10)
    grid = list(part.subplots(ceil(len(block.panels) / columns), columns, squeeze=False).flat)
    for axes, panel in zip(grid, block.panels, strict=False):
        panel.draw(axes)
        axes.set_title(_wrap(panel.title), loc="left", fontsize=10)
        axes.annotate(
            _wrap(panel.caption),
            (0, 0),
            (0, -34 if axes.axison else -4),  # below the tick and axis labels
            xycoords="axes fraction",
            textcoords="offset points",
            verticalalignment="top",
            color=MUTED,
            fontsize=SMALL,
        )
    for axes in grid[len(block.panels) :]:
        axes.set_axis_off()
    handles, names = [_handle(entry) for entry in block.entries], [entry.name for entry in block.entries]
    keys = max(1, LETTERS * columns // (8 + max(map(len, names))))
    part.legend(handles, names, loc="outside lower left", ncols=keys, frameon=False, fontsize=SMALL)


def _handle(entry: Entry) -> Line2D:
    """Draw a legend entry."""
    dash: Any = "none" if entry.marker else DASHES[entry.dash][0]
    return Line2D([], [], color=entry.colour, linestyle=dash, marker=entry.marker or None)


def _wrap(text: str, letters: int = LETTERS) -> str:
    return "\n".join(textwrap.wrap(text.replace(" %", "\N{NO-BREAK SPACE}%"), letters, break_on_hyphens=False))
