"""The report's summary as lines for a terminal."""

from gvsl.report.data import Source, data_of
from gvsl.report.finding import by_kind
from gvsl.report.matching import verdict_lines
from gvsl.report.numbers import number, percent, plural
from gvsl.report.run_metrics import evaluated, measured, pretext_metrics
from gvsl.report.runs import Run, missing_files
from gvsl.report.verdicts import verdict

CONTROL_LABELS = {
    "dice_affine": "by the affine part",
    "dice_swapped": "by another pair's field",
    "dice_mean_field": "by the mean field",
}
"""Metrics of labels beside those before and after matching, and their names."""


def summary_lines(source: Source) -> list[str]:
    """Return the report's summary as lines for a terminal: verdicts, metrics of pre-training, findings.

    Raises:
        UserError: as `write_report`, but for `out`.
    """
    data = data_of(source)
    lines = [f"{group.store}: {verdict(group, method)}" for group in data.compared for method in group.methods]
    lines += [f"{shown.store}: {shown.verdict}" for shown in data.aucs]
    for run in data.runs:
        if run.record.kind == "pretrain":
            lines += [_pretraining_line(run), *(f"{run.label}: {line}" for line in verdict_lines(run))]
    lines += [f"{item.level}: {item.subject}: {item.text_with_names}" for item in by_kind(data.findings)]
    missing = missing_files(data.runs)
    return lines + ([missing] if missing else [])


def _pretraining_line(run: Run) -> str:
    if measured(run, "ncc") is None:
        values = ", ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in pretext_metrics(run))
        return (
            f"{run.label}, {evaluated([run], 'volumes')}: {values}" if values else f"{run.label}: no metrics of volumes"
        )
    values = ", ".join(f"{name} {number(measured(run, name))}" for name in ("ncc", "ncc_affine", "ncc_identity"))
    labels = [(name, measured(run, key)) for key, name in CONTROL_LABELS.items()]
    controls = "".join(f", {number(value)} {name}" for name, value in labels if value is not None)
    return (
        f"{run.label}, {plural(len(run.record.cases), evaluated([run], 'pair'))}: {values}; label DSC "
        f"{number(measured(run, 'dice_after'))} from {number(measured(run, 'dice_before'))}{controls}; "
        f"{percent(measured(run, 'folded'))} folded"
    )
