"""Write the report: one HTML file, all of it inlined, from run folders alone."""

from pathlib import Path

from gvsl.files import refuse_existing, write_text
from gvsl.records import utc_now
from gvsl.report.data import Source, data_of
from gvsl.report.page import page
from gvsl.report.panels_pdf import write_pdf
from gvsl.report.sections.all_methods import all_methods
from gvsl.report.sections.curves import curves
from gvsl.report.sections.dice import dice
from gvsl.report.sections.overview import MAX_CARDS, overview, top
from gvsl.report.sections.pairs import pairs
from gvsl.report.sections.paper_figures import paper_figures
from gvsl.report.sections.restorations import restorations
from gvsl.report.sections.runs_table import runs_table
from gvsl.report.sections.score_by_labels import score_by_labels
from gvsl.report.sections.segmentations import segmentations
from gvsl.report.sections.viewer import viewer


def write_report(source: Source, out: Path) -> Path:
    """Render runs as one HTML file that opens without a network; return its path.

    Raises:
        UserError: `out` exists, a folder holds no record, or a record or a file beside it is broken.
    """
    refuse_existing(out)
    data = data_of(source)
    runs = data.runs
    figures = [(figure.anchor, figure.name, figure.html) for figure in paper_figures(runs)]
    sections = [
        ("summary", "Summary", overview(data)),
        ("table1", "All methods", all_methods(data.table1)),
        ("viewer", "Volumes", viewer(runs)),
        ("curves", "Curves", curves(runs)),
        ("pairs", "Pairs", pairs(runs)),
        ("restorations", "Restorations", restorations(runs)),
        ("dice", "DSC", dice(data.compared)),
        ("labels", "Labels", score_by_labels(runs)),
        *figures,
        ("segmentations", "Segmentations", segmentations(runs)),
        ("runs", "Runs", runs_table(runs, data.broken)),
    ]
    if sum(len(group.methods) for group in data.compared) > MAX_CARDS:
        sections.sort(key=lambda section: section[0] != "table1")
    shown = [(anchor, name, html) for anchor, name, html in sections if html is not None]
    contents = [(anchor, name) for anchor, name, _ in shown]
    head = top(data, utc_now()[:10])
    write_text(out, page(f"gvsl report: {data.headline}", contents, head, *(html for *_, html in shown)))
    return out


def write_figures(source: Source, out: Path) -> list[Path]:
    """Write figure6.pdf, figure7.pdf and figure8.pdf into `out`, those for which there are runs; return their paths.

    Earlier files are replaced.

    Raises:
        UserError: a folder holds no record, or a record or a file that it names is missing or broken.
    """
    paths = []
    for figure in paper_figures(data_of(source).runs):
        paths.append(out / f"{figure.anchor}.pdf")
        write_pdf(paths[-1], figure.title, figure.blocks)
    return paths
