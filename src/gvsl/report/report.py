"""Make the report: one HTML file, all of it inlined, from run folders alone."""

from collections.abc import Sequence
from pathlib import Path

from gvsl.files import refuse_existing, write_text
from gvsl.records import utc_now
from gvsl.report.checks import findings
from gvsl.report.classification import area_gaps, auc_verdict, classified
from gvsl.report.findings import gathered
from gvsl.report.groups import groups
from gvsl.report.numbers import number, percent, plural
from gvsl.report.page import page
from gvsl.report.run_figures import held_out, pretext_figures
from gvsl.report.runs import read_runs
from gvsl.report.sections.comparison import comparison
from gvsl.report.sections.curves import curves
from gvsl.report.sections.dice import dice
from gvsl.report.sections.labels import labels
from gvsl.report.sections.overview import MOST_CARDS, overview, top
from gvsl.report.sections.pairs import pairs
from gvsl.report.sections.paper_figures import paper_figures
from gvsl.report.sections.restorations import restorations
from gvsl.report.sections.runs_table import missing_words, runs_table
from gvsl.report.sections.segmentations import segmentations
from gvsl.report.sections.viewer import viewer
from gvsl.report.wording import headline, verdict

CONTENTS = (
    ("summary", "Summary"),
    ("table1", "All methods"),
    ("viewer", "Volumes"),
    ("curves", "Curves"),
    ("pairs", "Pairs"),
    ("restorations", "Restorations"),
    ("dice", "DSC"),
    ("labels", "Labels"),
    ("segmentations", "Segmentations"),
    ("runs", "Runs"),
)


def write_report(folders: Sequence[Path], out: Path) -> Path:
    """Render the runs in and below `folders` as one HTML file, opened without a network; return its path.

    Raises:
        UserError: `out` exists, a folder holds no record, or a record or a file beside it is broken.
    """
    refuse_existing(out)
    runs = read_runs(folders)
    compared = groups(runs)
    found = findings(runs, compared)
    crowded = sum(len(group.methods) for group in compared) > MOST_CARDS
    figures = paper_figures(runs)
    sections = {
        "summary": overview(runs, compared, found),
        "table1": comparison(runs),
        "viewer": viewer(runs),
        "curves": curves(runs),
        "pairs": pairs(runs),
        "restorations": restorations(runs),
        "dice": dice(compared),
        "labels": labels(runs),
        **{figure.anchor: figure.html for figure in figures},
        "segmentations": segmentations(runs),
        "runs": runs_table(runs),
    }
    named = dict(CONTENTS) | {figure.anchor: figure.name for figure in figures}
    order = sorted(sections, key=lambda anchor: anchor != "table1") if crowded else list(sections)
    shown = {anchor: part for anchor in order if (part := sections[anchor]) is not None}
    contents = [(anchor, named[anchor]) for anchor in shown]
    line = headline(runs, compared, area_gaps(runs))
    head = top(runs, line, found, utc_now()[:10])
    write_text(out, page(f"gvsl report: {line}", contents, head, *shown.values()))
    return out


def summary_lines(folders: Sequence[Path]) -> list[str]:
    """The report's summary as plain lines for a terminal: the verdicts, the matching figures, the findings.

    Raises:
        UserError: as `write_report`, but for `out`.
    """
    runs = read_runs(folders)
    compared = groups(runs)
    lines = [f"{group.store}: {verdict(group, method)}" for group in compared for method in group.methods]
    lines += [f"{shown.store}: {auc_verdict(shown)}" for shown in classified(runs)]
    for run in runs:
        if run.record.kind == "pretrain" and held_out(run, "ncc") is None:
            figures = ", ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in pretext_figures(run))
            lines.append(f"{run.label}, held-out volumes: {figures or 'no figures'}")
        elif run.record.kind == "pretrain":
            values = ", ".join(
                f"{name} {number(held_out(run, name))}" for name in ("ncc", "ncc_affine", "ncc_identity")
            )
            pairs_said = plural(len(run.record.cases), "held-out pair")
            lines.append(
                f"{run.label}, {pairs_said}: {values}; label DSC {number(held_out(run, 'dice_after'))} from "
                f"{number(held_out(run, 'dice_before'))}; {percent(held_out(run, 'folded'))} folded"
            )
    lines += [f"{item.level}: {item.subject}: {item.text_with_names}" for item in gathered(findings(runs, compared))]
    return lines + ([missing_words(runs)] if missing_words(runs) else [])
