"""The paper's figures as files of their own."""

from collections.abc import Sequence
from pathlib import Path

from gvsl.files import write_text
from gvsl.report.figures.linked import document
from gvsl.report.runs import read_runs
from gvsl.report.sections.paper_figures import paper_figures


def write_figures(folders: Sequence[Path], out: Path) -> list[Path]:
    """Write figure6.svg, figure7.svg and figure8.svg into `out`, those that the runs have something for.

    Earlier ones are replaced: they were of the same runs.

    Raises:
        UserError: a folder holds no record, or a record or a file that it names is missing or broken.
    """
    paths = []
    for figure in paper_figures(read_runs(folders)):
        paths.append(out / f"{figure.anchor}.svg")
        write_text(paths[-1], document(figure.title, figure.blocks))
    return paths
