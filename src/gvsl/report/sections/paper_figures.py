"""Figures 6, 7 and 8 of the paper from run records."""

from collections.abc import Sequence
from typing import NamedTuple

from gvsl.report.page import Html, section
from gvsl.report.panels import Block
from gvsl.report.runs import Run
from gvsl.report.sections import feature_clusters, learning, restoration_ablation

FIGURES = (
    (6, "Learning", "Validation score over the steps", learning.LEAD, learning.learning),
    (7, "Clusters", "Clusters of features", feature_clusters.LEAD, feature_clusters.feature_clusters),
    (
        *(8, "Restoration", "Matching with and without restoration"),
        *(restoration_ablation.LEAD, restoration_ablation.restoration_ablation),
    ),
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
