"""The paper's Figures 6, 7 and 8 from run records, each where there are runs for it."""

from collections.abc import Sequence
from typing import NamedTuple

from gvsl.report.figures.linked import Block
from gvsl.report.page import Html, section
from gvsl.report.runs import Run
from gvsl.report.sections import feature_clusters, learning, restoration_ablation

FIGURES = (
    (6, "Learning", "Validation score over the steps", learning.LEAD, learning.learning),
    (7, "Clusters", "How features cluster", feature_clusters.LEAD, feature_clusters.feature_clusters),
    (
        *(8, "Restoration's part", "Matching with and without restoration"),
        *(restoration_ablation.LEAD, restoration_ablation.restoration_ablation),
    ),
)


class PaperFigure(NamedTuple):
    """One figure: what the page and a file of its own show."""

    anchor: str
    name: str
    title: str
    blocks: list[Block]
    html: Html


def paper_figures(runs: Sequence[Run]) -> list[PaperFigure]:
    """The figures that the runs have something for."""
    found = []
    for place, name, title, lead, make in FIGURES:
        blocks, parts = make(runs)
        if blocks:
            whole = f"{title} (Figure {place})"
            found.append(
                PaperFigure(f"figure{place}", name, whole, blocks, section(f"figure{place}", whole, lead, *parts))
            )
    return found
