"""Figures 6, 7 and 8 of the paper from run records."""

from collections.abc import Sequence
from typing import NamedTuple

from gvsl.report.page import Html, element, section
from gvsl.report.panels import Block, block_html
from gvsl.report.runs import Run
from gvsl.report.sections.feature_clusters import CLUSTERS_LEAD, feature_clusters
from gvsl.report.sections.learning import LEARNING_LEAD, learning
from gvsl.report.sections.restoration_ablation import ABLATION_LEAD, restoration_ablation

FIGURES = (
    (6, "Learning", "Validation score over the steps", LEARNING_LEAD, learning),
    (7, "Clusters", "Clusters of features", CLUSTERS_LEAD, feature_clusters),
    (8, "Restoration", "Matching with and without restoration", ABLATION_LEAD, restoration_ablation),
)
"""Number, short name, title, lead, and a function that returns the blocks with their tables, and the runs left out."""
LEFT_OUT = {6: "with no other method of the same settings to compare", 8: "with nothing of the same settings beside it"}
"""Why a figure leaves runs out."""


class PaperFigure(NamedTuple):
    """One figure for the page and for a file."""

    anchor: str
    name: str
    title: str
    blocks: list[Block]
    html: Html


def paper_figures(runs: Sequence[Run]) -> list[PaperFigure]:
    """Make the figures for which there are runs."""
    figures = []
    for place, name, title, lead, make in FIGURES:
        found, alone = make(runs)
        if found:
            anchor, title = f"figure{place}", f"{title} (Figure {place})"
            parts = [block_html(block, table) for block, table in found]
            names = ", ".join(run.label for run in alone)
            parts += [element("p", f"Not shown, {LEFT_OUT[place]}: {names}.", css="quiet")] if alone else []
            blocks = [block for block, _ in found]
            figures.append(PaperFigure(anchor, name, title, blocks, section(anchor, title, lead, *parts)))
    return figures
