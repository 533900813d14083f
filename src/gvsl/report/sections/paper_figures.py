"""Figures 6, 7 and 8 of the paper from run records, on the page and as PDF files."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gvsl.report.figures.panels import Block
from gvsl.report.figures.pdf import write_pdf
from gvsl.report.page import Html, section
from gvsl.report.runs import Run, read_runs
from gvsl.report.sections import clusters, fundament, learning

FIGURES = (
    (6, "Learning", "Validation score over the steps", learning.LEAD, learning.learning),
    (7, "Clusters", "Clusters of features", clusters.LEAD, clusters.clusters),
    (8, "Restoration", "Matching with and without restoration", fundament.LEAD, fundament.fundament),
)


class PaperFigure(NamedTuple):
    """One figure for the page and for a file."""

    anchor: str
    name: str
    title: str
    blocks: list[Block]
    html: Html


def paper_figures(runs: Sequence[Run]) -> list[PaperFigure]:
    """Make the figures for which there are runs."""
    found = []
    for place, name, title, lead, make in FIGURES:
        blocks, parts = make(runs)
        if blocks:
            anchor, title = f"figure{place}", f"{title} (Figure {place})"
            found.append(PaperFigure(anchor, name, title, blocks, section(anchor, title, lead, *parts)))
    return found


def write_figures(folders: Sequence[Path], out: Path) -> list[Path]:
    """Write figure6.pdf, figure7.pdf and figure8.pdf into `out`, those for which there are runs; return their paths.

    Existing files are replaced.

    Raises:
        UserError: a folder holds no record, or a record or a file that it names is missing or broken.
    """
    paths = []
    for figure in paper_figures(read_runs(folders)):
        paths.append(out / f"{figure.anchor}.pdf")
        write_pdf(paths[-1], figure.title, figure.blocks)
    return paths
