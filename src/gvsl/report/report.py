"""Write the report: one HTML file, all of it inlined, from run folders alone."""

from collections.abc import Sequence
from pathlib import Path

from gvsl.files import refuse_existing, write_text
from gvsl.records import utc_now
from gvsl.report.data import ReportData, read_report
from gvsl.report.finding import by_kind
from gvsl.report.matching import verdict_lines
from gvsl.report.numbers import number, percent, plural
from gvsl.report.page import page
from gvsl.report.panels_pdf import write_pdf
from gvsl.report.run_metrics import held_out, pretext_metrics
from gvsl.report.runs import Run
from gvsl.report.sections.all_methods import all_methods
from gvsl.report.sections.curves import curves
from gvsl.report.sections.dice import dice
from gvsl.report.sections.overview import MAX_CARDS, overview, top
from gvsl.report.sections.pairs import pairs
from gvsl.report.sections.paper_figures import paper_figures
from gvsl.report.sections.restorations import restorations
from gvsl.report.sections.runs_table import missing_files, runs_table
from gvsl.report.sections.score_by_labels import score_by_labels
from gvsl.report.sections.segmentations import segmentations
from gvsl.report.sections.viewer import viewer
from gvsl.report.verdicts import verdict

Source = ReportData | Sequence[Path]
"""Folders of runs, or what was read from them."""
CONTROL_LABELS = {
    "dice_affine": "by the affine part",
    "dice_swapped": "by another pair's field",
    "dice_mean_field": "by the mean field",
}
"""Metrics of labels beside those before and after matching, and their names."""


def write_report(source: Source, out: Path) -> Path:
    """Render runs as one HTML file that opens without a network; return its path.

    Raises:
        UserError: `out` exists, a folder holds no record, or a record or a file beside it is broken.
    """
    refuse_existing(out)
    data = _data(source)
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


def summary_lines(source: Source) -> list[str]:
    """Return the report's summary as lines for a terminal: verdicts, metrics of pre-training, findings.

    Raises:
        UserError: as `write_report`, but for `out`.
    """
    data = _data(source)
    lines = [f"{group.store}: {verdict(group, method)}" for group in data.compared for method in group.methods]
    lines += [f"{shown.store}: {shown.verdict}" for shown in data.aucs]
    for run in data.runs:
        if run.record.kind == "pretrain":
            lines += [_pretraining_line(run), *(f"{run.label}: {line}" for line in verdict_lines(run))]
    lines += [f"{item.level}: {item.subject}: {item.text_with_names}" for item in by_kind(data.findings)]
    missing = missing_files(data.runs)
    return lines + ([missing] if missing else [])


def write_figures(source: Source, out: Path) -> list[Path]:
    """Write figure6.pdf, figure7.pdf and figure8.pdf into `out`, those for which there are runs; return their paths.

    Earlier files are replaced.

    Raises:
        UserError: a folder holds no record, or a record or a file that it names is missing or broken.
    """
    paths = []
    for figure in paper_figures(_data(source).runs):
        paths.append(out / f"{figure.anchor}.pdf")
        write_pdf(paths[-1], figure.title, figure.blocks)
    return paths


def _data(source: Source) -> ReportData:
    return source if isinstance(source, ReportData) else read_report(source)


def _pretraining_line(run: Run) -> str:
    if held_out(run, "ncc") is None:
        values = ", ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in pretext_metrics(run))
        return f"{run.label}, held-out volumes: {values or 'no metrics'}"
    values = ", ".join(f"{name} {number(held_out(run, name))}" for name in ("ncc", "ncc_affine", "ncc_identity"))
    labels = [(name, held_out(run, key)) for key, name in CONTROL_LABELS.items()]
    measured = "".join(f", {number(value)} {name}" for name, value in labels if value is not None)
    return (
        f"{run.label}, {plural(len(run.record.cases), 'held-out pair')}: {values}; label DSC "
        f"{number(held_out(run, 'dice_after'))} from {number(held_out(run, 'dice_before'))}{measured}; "
        f"{percent(held_out(run, 'folded'))} folded"
    )
