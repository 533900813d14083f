"""Lines of test scores over the number of labelled cases, from records alone."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial
from statistics import fmean
from typing import NamedTuple

from gvsl.records.comparability import LABELS, labels_of
from gvsl.report.grouping import RANDOM, SCRATCH, WITH_CARRIED, chart_groups
from gvsl.report.runs import Run
from gvsl.report.verdicts import feature_name

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
    """One arm in one protocol, with points by increasing number of labels."""

    name: str
    arm: str
    protocol: str
    """That of `gvsl.report.grouping.protocol_of`."""
    points: list[Point]


class LabelChart(NamedTuple):
    """The curves of one store and score, `DSC` or `AUC`."""

    store: str
    score: str
    curves: list[LabelCurve]


def label_charts(runs: Sequence[Run]) -> list[LabelChart]:
    """Return the finished transfer runs with several numbers of labels, by store and score.

    Runs that differ in another deciding setting are on curves of their own. Where labels were carried, one number of
    labels is enough.
    """
    charts: dict[tuple[str, str], list[LabelCurve]] = defaultdict(list)
    for metric, score in SCORES.items():
        groups, _ = chart_groups(runs, partial(_has_score, metric=metric), 1, vary=(LABELS,))
        few = {group.store for group in groups if group.protocol in WITH_CARRIED}
        arms = [
            (group, name, _points(arm, metric, 1 if group.store in few else 2))
            for group in groups
            for name, arm in group.arms.items()
        ]
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


def _points(runs: Sequence[Run], metric: str, least: int) -> list[Point]:
    """Return the points of a curve; none if there are fewer numbers of labels than `least`.

    Runs on all cases, with no number drawn, count if they start from the weights of the others.
    """
    weights = {run.record.config["weights"] for run in runs if isinstance(run.record.config.get(LABELS), int)}
    found: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        if run.record.config["weights"] in weights:
            found[labels_of(run.record) or 0].append(run)
    return [_point(labels, found[labels], metric) for labels in sorted(found)] if len(found) >= least else []


def _point(labels: int, runs: list[Run], metric: str) -> Point:
    by_seed: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        by_seed[run.record.seed].append(run.record.metrics[metric])
    scores = [run.record.metrics[metric] for run in runs]
    return Point(labels, runs, fmean(map(fmean, by_seed.values())), min(scores), max(scores))
