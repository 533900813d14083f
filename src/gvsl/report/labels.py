"""Test scores against the number of labels that were learnt from."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from gvsl.report.pretraining import RANDOM
from gvsl.report.runs import Run
from gvsl.report.studies import Study, studies
from gvsl.report.table1.table import SCRATCH
from gvsl.report.wording import feature_name

SCORES = {"test/dice": "DSC", "test/auc": "AUC"}
"""The metrics of a record that are a test score, each a mean over cases."""


@dataclass(frozen=True)
class Point:
    """The runs of one number of labels."""

    labels: int
    runs: list[Run]

    @property
    def scores(self) -> list[float]:
        """Of each run."""
        return [score_of(run)[1] for run in self.runs]

    @property
    def mean(self) -> float:
        """Over the runs, which are of different seeds."""
        return fmean(self.scores)


@dataclass(frozen=True)
class LabelCurve:
    """One method in one mode."""

    name: str
    method: str
    mode: str
    """`linear` or `finetune`, to which training from scratch belongs."""
    points: list[Point]
    """By rising number of labels; two or more."""


@dataclass(frozen=True)
class LabelStudy:
    """The curves of one store."""

    store: str
    score: str
    """`DSC` or `AUC`."""
    curves: list[LabelCurve]


def label_studies(runs: Sequence[Run]) -> list[LabelStudy]:
    """The finished transfer runs with several numbers of labels, by store and score, each setting apart by itself."""
    scored = [
        run
        for run in runs
        if run.record.kind == "transfer" and run.record.status == "finished" and score_of(run)[0] and count_of(run)
    ]
    curves: dict[tuple[str, str], list[LabelCurve]] = {}
    for score in SCORES.values():
        found, _ = studies([run for run in scored if score_of(run)[0] == score], 1, ("labels",))
        kept = [
            (study, method, points) for study in found for method in study.sides if (points := _points(study, method))
        ]
        for study, method, points in kept:
            alike = [
                each for each in kept if (each[0].store, each[0].mode, each[1]) == (study.store, study.mode, method)
            ]
            twins = [other for other, _, theirs in alike if not any(_repeats(theirs, its) for _, _, its in alike)]
            if study not in twins:
                continue
            name = feature_name(RANDOM if method == SCRATCH else method, study.mode)
            apart = f" ({study.settings})" if len(twins) > 1 else ""
            curves.setdefault((study.store, score), []).append(LabelCurve(name + apart, method, study.mode, points))
    return [LabelStudy(store, score, lines) for (store, score), lines in curves.items()]


def score_of(run: Run) -> tuple[str, float]:
    """What a run's test score is called, and the score; an empty name where nothing was tested."""
    for name, said in SCORES.items():
        if name in run.record.metrics:
            return said, run.record.metrics[name]
    return "", 0.0


def count_of(run: Run) -> int:
    """The number of labelled cases that a run learnt from; 0 where the record doesn't say."""
    config = run.record.config
    return config["labels"] if isinstance(config.get("labels"), int) else len(config.get("train_cases") or ())


def _repeats(points: list[Point], others: list[Point]) -> bool:
    """Whether others have all these scores and more: of the same runs made before some setting was there."""
    theirs = {point.labels: sorted(point.scores) for point in others}
    return len(others) > len(points) and all(sorted(point.scores) == theirs.get(point.labels) for point in points)


def _points(study: Study, method: str) -> list[Point]:
    """The points of a curve, or none where there is one number of labels alone.

    Runs on all cases, with no number drawn, count where they start from the weights of the others and add a number.
    """
    runs = study.sides[method]
    drawn = [run for run in runs if isinstance(run.record.config.get("labels"), int)]
    weights = {run.record.config["weights"] for run in drawn}
    counts = {count_of(run) for run in drawn}
    whole = [run for run in runs if run.record.config["weights"] in weights and count_of(run) not in counts]
    found: dict[int, list[Run]] = defaultdict(list)
    for run in [*drawn, *whole]:
        found[count_of(run)].append(run)
    return [Point(labels, found[labels]) for labels in sorted(found)] if len(found) > 1 else []
