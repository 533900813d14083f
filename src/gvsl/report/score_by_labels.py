"""Test scores by the number of labelled training cases."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from gvsl.records.comparability import LABELS, labels_of
from gvsl.report.grouping import RANDOM, SCRATCH, chart_groups
from gvsl.report.runs import Run
from gvsl.report.verdicts import feature_name

SCORES = {"test/dice": "DSC", "test/auc": "AUC"}
"""Names of the test scores among a record's metrics."""


@dataclass(frozen=True)
class Point:
    """The runs of one number of labels."""

    labels: int
    runs: list[Run]

    @property
    def scores(self) -> list[float]:
        """The test score of each run."""
        return [next(run.record.metrics[name] for name in SCORES if name in run.record.metrics) for run in self.runs]

    @property
    def mean(self) -> float:
        """The mean over seeds; several runs of one seed count as their mean."""
        by_seed: dict[int, list[float]] = defaultdict(list)
        for run, score in zip(self.runs, self.scores, strict=True):
            by_seed[run.record.seed].append(score)
        return fmean(map(fmean, by_seed.values()))


@dataclass(frozen=True)
class LabelCurve:
    """One arm in one mode."""

    name: str
    arm: str
    mode: str
    """`linear`, or `finetune`, to which training from scratch belongs."""
    points: list[Point]
    """By increasing number of labels; two or more."""


@dataclass(frozen=True)
class LabelChart:
    """The curves of one store and score."""

    store: str
    score: str
    """`DSC` or `AUC`."""
    curves: list[LabelCurve]


def label_charts(runs: Sequence[Run]) -> list[LabelChart]:
    """Return the finished transfer runs with several numbers of labels, by store and score.

    Runs that differ in another deciding setting are on curves of their own.
    """
    charts: dict[tuple[str, str], list[LabelCurve]] = {}
    for metric, score in SCORES.items():

        def is_shown(run: Run, metric: str = metric) -> bool:
            record = run.record
            finished = record.kind == "transfer" and record.status == "finished"
            return finished and metric in record.metrics and bool(labels_of(record))

        found, _ = chart_groups(runs, is_shown, 1, vary=(LABELS,))
        arms = [(group, name, _points(arm)) for group in found for name, arm in group.arms.items()]
        kept = [item for item in arms if item[2]]
        counts = Counter((group.store, group.mode, name) for group, name, _ in kept)
        for group, name, points in kept:
            arm = RANDOM if name == SCRATCH else name
            settings = f" ({group.settings})" if counts[group.store, group.mode, name] > 1 else ""
            curve = LabelCurve(feature_name(arm, group.mode) + settings, arm, group.mode, points)
            charts.setdefault((group.store, score), []).append(curve)
    return [LabelChart(store, score, curves) for (store, score), curves in charts.items()]


def _points(runs: Sequence[Run]) -> list[Point]:
    """Return the points of a curve; none if there is only one number of labels.

    Runs on all cases, with no number drawn, count if they start from the weights of the others.
    """
    weights = {run.record.config["weights"] for run in runs if isinstance(run.record.config.get(LABELS), int)}
    found: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        if run.record.config["weights"] in weights:
            found[labels_of(run.record) or 0].append(run)
    return [Point(labels, found[labels]) for labels in sorted(found)] if len(found) > 1 else []
