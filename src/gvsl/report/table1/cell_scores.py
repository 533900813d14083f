"""Case-by-case scores of the runs of one cell of Table 1: means, intervals and tests."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gvsl.errors import UserError
from gvsl.metrics.bootstrap import MIN_CASES, Interval, draw_counts, interval_of
from gvsl.metrics.ranking import auc_of_draws
from gvsl.report.runs import Run

Floats = NDArray[np.float64]


class Scores(NamedTuple):
    """Per-case scores of the runs of one cell: DSC, or the predictions that an AUC is computed from."""

    values: Floats
    """(runs, cases): the DSC of each case, or its predicted score."""
    targets: Floats | None
    """(cases,): the class of each case if the metric is the AUC."""
    seeds: tuple[int, ...]
    """(runs,): several runs of one seed count as their mean."""
    cases: tuple[str, ...] = ()
    """(cases,): their ids."""
    left_out: int = 0
    """The number of cases that not every run has scored, which are ignored."""

    def mean(self, seeds: Sequence[int] | None = None) -> float:
        """Return the mean over seeds of the mean DSC, or of the AUC; NaN if all cases are of one class."""
        return float(self.means_of_draws(np.ones((1, self.values.shape[1])), seeds)[0])

    def means_of_draws(self, counts: Floats, seeds: Sequence[int] | None = None) -> Floats:
        """Return the mean of each of many draws of cases, (draws,).

        Args:
            counts: how often each draw holds each case, (draws, cases).
            seeds: to average over; all if not given.
        """
        weights = self._weights(seeds)
        if self.targets is None:
            return np.asarray(counts @ (weights @ self.values) / counts.sum(axis=1))
        return auc_of_draws(self.targets, self.values, weights, counts)

    def case_means(self, seeds: Sequence[int]) -> Floats:
        """Return the mean over seeds for every case, (cases,)."""
        return np.asarray(self._weights(seeds) @ self.values)

    def of(self, cases: Sequence[str]) -> "Scores":
        """Return the scores of some of the cases, in the order given."""
        indices = [self.cases.index(case) for case in cases]
        targets = None if self.targets is None else self.targets[indices]
        return self._replace(values=self.values[:, indices], targets=targets, cases=tuple(cases))

    def _weights(self, seeds: Sequence[int] | None) -> Floats:
        """Return each run's weight in the mean, (runs,): equal for all seeds, and equal for the runs of a seed."""
        counts = Counter(seed for seed in self.seeds if seeds is None or seed in seeds)
        return np.array([1 / counts[seed] / len(counts) if seed in counts else 0.0 for seed in self.seeds])


def scores_of(runs: Sequence[Run]) -> Scores:
    """Return the scores of runs on the cases that all of them have, in order of their seeds.

    Raises:
        UserError: they have no case in common.
    """
    records = sorted((run.record for run in runs), key=lambda record: (record.seed, record.name))
    name = "dice" if "dice" in records[0].cases[0] else "score"
    by_case = [{str(row["id"]): row for row in record.cases} for record in records]
    ids = [case for case in by_case[0] if all(case in rows for rows in by_case)]
    if not ids:
        names = ", ".join(record.name for record in records)
        raise UserError(f"the runs {names} have no test case in common: name some of them")
    values = np.array([[float(rows[case][name]) for case in ids] for rows in by_case])
    targets = None if name == "dice" else np.array([float(by_case[0][case]["target"]) for case in ids])
    left_out = len({case for rows in by_case for case in rows}) - len(ids)
    return Scores(values, targets, tuple(record.seed for record in records), tuple(ids), left_out)


def interval(scores: Scores) -> Interval | None:
    """Return the 95 % bootstrap interval over cases; None if there is no mean, or of fewer than 5 cases."""
    count = scores.values.shape[1]
    return interval_of(count, scores.means_of_draws(draw_counts(count)))


def gap(mine: Scores, others: Scores) -> float | None:
    """Return the difference of two means over the seeds and cases that both have; None if it is undefined."""
    pair = _paired(mine, others)
    if pair is None:
        return None
    seeds, (first, second) = pair
    found = first.mean(seeds) - second.mean(seeds)
    return found if np.isfinite(found) else None


def p_value(mine: Scores, others: Scores) -> float | None:
    """Return the two-sided p value of the difference over cases: Wilcoxon's signed ranks for DSC, bootstrap for AUC.

    None if it is undefined, or by bootstrap of fewer than 5 cases.
    """
    pair = _paired(mine, others)
    if pair is None:
        return None
    seeds, (left, right) = pair
    if left.targets is None:
        from scipy.stats import wilcoxon

        first, second = left.case_means(seeds), right.case_means(seeds)
        return 1.0 if np.array_equal(first, second) else float(wilcoxon(first, second).pvalue)
    count = left.values.shape[1]
    draws = draw_counts(count)
    gaps = left.means_of_draws(draws, seeds) - right.means_of_draws(draws, seeds)
    gaps = gaps[np.isfinite(gaps)]
    if count < MIN_CASES or not gaps.size:
        return None
    return float(min(1.0, 2 * (min((gaps <= 0).sum(), (gaps >= 0).sum()) + 1) / (gaps.size + 1)))


def holm(p_values: Mapping[str, float | None]) -> dict[str, float]:
    """Return p values corrected for multiple comparisons by the step-down method of Holm (1979)."""
    known = sorted((value, method) for method, value in p_values.items() if value is not None)
    corrected: dict[str, float] = {}
    so_far = 0.0
    for rank, (value, method) in enumerate(known):
        so_far = max(so_far, min(1.0, (len(known) - rank) * value))
        corrected[method] = so_far
    return corrected


def _paired(mine: Scores, others: Scores) -> tuple[list[int], tuple[Scores, Scores]] | None:
    """Return the seeds that both have, and both on the cases that both have."""
    seeds = sorted(set(mine.seeds) & set(others.seeds))
    cases = [case for case in mine.cases if case in others.cases]
    return (seeds, (mine.of(cases), others.of(cases))) if seeds and cases else None
