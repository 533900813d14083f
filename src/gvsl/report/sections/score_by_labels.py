"""Few labels: test scores by the number of labelled training cases."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial
from statistics import fmean
from typing import NamedTuple

import numpy as np

from gvsl.records.comparability import LABELS, labels_of
from gvsl.report.figures.score_lines import ScoreLine, draw_scores_by_labels
from gvsl.report.grouping import RANDOM, SCRATCH, chart_groups, repeats_note
from gvsl.report.numbers import MISSING, number, plural
from gvsl.report.page import Html, section, table, value_cell
from gvsl.report.panels import Block, Entry, Panel, block_html
from gvsl.report.runs import Run
from gvsl.report.sections.names import arm_colours, seed_links
from gvsl.report.verdicts import feature_name

LEAD = (
    "Test score by the number of labelled training cases: a line for each method and mode, through the means over "
    "seeds, and the range over seeds around it. A colour is a method; frozen features have solid lines, networks that "
    "are trained whole dashed ones."
)
DASHES = {"linear": "solid", "finetune": "dashed"}
SCORES = {"test/dice": "DSC", "test/auc": "AUC"}
"""Names of the test scores among a record's metrics."""


class Point(NamedTuple):
    """The runs of one number of labels, and their scores."""

    labels: int
    runs: list[Run]
    mean: float
    """Over seeds; several runs of one seed count as their mean."""
    low: float
    high: float
    """Minimum and maximum over the runs."""


class LabelCurve(NamedTuple):
    """One arm in one mode, with points by increasing number of labels, two or more."""

    name: str
    arm: str
    mode: str
    """`linear`, or `finetune`, to which training from scratch belongs."""
    points: list[Point]


class LabelChart(NamedTuple):
    """The curves of one store and score, `DSC` or `AUC`."""

    store: str
    score: str
    curves: list[LabelCurve]


def score_by_labels(runs: Sequence[Run]) -> Html | None:
    """Return the section, or None if no method has runs with several numbers of labels."""
    parts = [block_html(_block(chart), _table(chart)) for chart in label_charts(runs)]
    return section("labels", "Scores over the number of labels", LEAD, *parts) if parts else None


def label_charts(runs: Sequence[Run]) -> list[LabelChart]:
    """Return the finished transfer runs with several numbers of labels, by store and score.

    Runs that differ in another deciding setting are on curves of their own.
    """
    charts: dict[tuple[str, str], list[LabelCurve]] = defaultdict(list)
    for metric, score in SCORES.items():
        groups, _ = chart_groups(runs, partial(_has_score, metric=metric), 1, vary=(LABELS,))
        arms = [(group, name, _points(arm, metric)) for group in groups for name, arm in group.arms.items()]
        kept = [item for item in arms if item[2]]
        counts = Counter((group.store, group.protocol, name) for group, name, _ in kept)
        for group, name, points in kept:
            arm = RANDOM if name == SCRATCH else name
            settings = f" ({group.settings})" if counts[group.store, group.protocol, name] > 1 else ""
            curve = LabelCurve(feature_name(arm, group.protocol) + settings, arm, group.protocol, points)
            charts[group.store, score].append(curve)
    return [LabelChart(*key, curves) for key, curves in charts.items()]


def _has_score(run: Run, metric: str) -> bool:
    record = run.record
    finished = record.kind == "transfer" and record.status == "finished"
    return finished and metric in record.metrics and bool(labels_of(record))


def _points(runs: Sequence[Run], metric: str) -> list[Point]:
    """Return the points of a curve; none if there is only one number of labels.

    Runs on all cases, with no number drawn, count if they start from the weights of the others.
    """
    weights = {run.record.config["weights"] for run in runs if isinstance(run.record.config.get(LABELS), int)}
    found: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        if run.record.config["weights"] in weights:
            found[labels_of(run.record) or 0].append(run)
    return [_point(labels, found[labels], metric) for labels in sorted(found)] if len(found) > 1 else []


def _point(labels: int, runs: list[Run], metric: str) -> Point:
    by_seed: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        by_seed[run.record.seed].append(run.record.metrics[metric])
    scores = [run.record.metrics[metric] for run in runs]
    return Point(labels, runs, fmean(map(fmean, by_seed.values())), min(scores), max(scores))


def _block(chart: LabelChart) -> Block:
    colours = arm_colours(curve.arm for curve in chart.curves)
    entries = [Entry(curve.name, colours[curve.arm], DASHES.get(curve.mode, "dotted")) for curve in chart.curves]
    lines = []
    for index, (curve, entry) in enumerate(zip(chart.curves, entries, strict=True)):
        values = [(point.labels, point.mean, point.low, point.high) for point in curve.points]
        lines.append(ScoreLine(index, entry.colour, entry.dash, *np.array(values, np.float64).T))
    alt = f"Test {chart.score} over the number of labels on {chart.store}: {', '.join(entry.name for entry in entries)}"
    draw = partial(draw_scores_by_labels, lines=lines, score=chart.score)
    points = [(curve.name, point) for curve in chart.curves for point in curve.points]
    note = repeats_note({f"{name}, {plural(point.labels, 'label')}": point.runs for name, point in points})
    return Block(chart.store, note, entries, [Panel(chart.score, draw, alt, "The axis doubles in equal steps.")])


def _table(chart: LabelChart) -> Html:
    counts = sorted({point.labels for curve in chart.curves for point in curve.points})
    rows: list[list[Html | str]] = []
    for curve in chart.curves:
        points = {point.labels: point for point in curve.points}
        rows.append([curve.name, *(_cell(points[count]) if count in points else MISSING for count in counts)])
    header = ["", *(plural(count, "label") for count in counts)]
    return table(header, rows, f"Test {chart.score}: mean over seeds, its range, and the seeds.")


def _cell(point: Point) -> Html:
    """Return the mean, its range, and the seeds as links to their runs."""
    ends = "" if len(point.runs) == 1 else f"{number(point.low)} to {number(point.high)}, "
    return value_cell(number(point.mean), f"{ends}seed{'s' if ends else ''} ", seed_links(point.runs))
