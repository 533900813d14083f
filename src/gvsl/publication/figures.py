"""The figures of a model card: scores on test cases, or on what a pre-training was evaluated on, with intervals."""

import math
from typing import NamedTuple

import numpy as np

from gvsl.metrics.bootstrap import Floats, Interval, draw_counts, interval_of, recorded_interval
from gvsl.records.matching import MATCHING_METRICS
from gvsl.report.run_metrics import pretext_metrics, title_of
from gvsl.report.runs import Run

SCORES = {"dice": "DSC", "hd95": "HD95 (mm)", "auc": "AUC", "ap": "average precision"}
"""Titles of the scores of a transfer."""
ENDS = ("_low", "_high", "_std")


class Figure(NamedTuple):
    """One figure."""

    title: str
    value: float
    interval: Interval | None
    """The 95 % interval over cases; None of fewer than 5, or if the record doesn't have what it takes."""
    cases: int | None
    """The number of cases, None if unknown."""


def figures(run: Run) -> list[Figure]:
    """Return the figures of a run; none if nothing was measured."""
    found = _of_pairs(run) + _of_pretext(run) if run.record.kind == "pretrain" else _of_transfer(run)
    return [figure for figure in found if math.isfinite(figure.value)]


def _of_transfer(run: Run) -> list[Figure]:
    metrics, count = run.record.metrics, len(run.record.cases)
    found = []
    for name, value in metrics.items():
        if not name.startswith("test/") or name.endswith(ENDS):
            continue
        score, _, structure = name.removeprefix("test/").partition("/")
        title = SCORES.get(score, score) + (f" of {structure}" if structure else "")
        found.append(Figure(title, value, recorded_interval(metrics, name, count), count))
    return found


def _of_pairs(run: Run) -> list[Figure]:
    found = []
    draws: dict[int, Floats] = {}
    for metric in MATCHING_METRICS:
        values = np.array([float(row[metric.name]) for row in run.record.cases if row.get(metric.name) is not None])
        count = values.size
        if count:
            if count not in draws:
                draws[count] = draw_counts(count)
            ends = interval_of(count, draws[count] @ values / count)
            found.append(Figure(metric.title, float(values.mean()), ends, count))
    return found


def _of_pretext(run: Run) -> list[Figure]:
    return [Figure(title_of(run, name), value, None, None) for name, value in pretext_metrics(run)]
