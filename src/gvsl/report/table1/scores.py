"""What the runs of one cell of Table 1 scored, case by case: means, intervals and tests."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gvsl.errors import UserError
from gvsl.records import RunRecord

DRAWS = 2000
TAIL = 2.5
"""Per cent of the draws left out on each side of an interval."""

Floats = NDArray[np.float64]


class Scores(NamedTuple):
    """Per-case scores of runs of one cell: DSC, or what an AUC is made of."""

    values: Floats
    """(runs, cases): the DSC of each case, or its score."""
    targets: Floats | None
    """(cases,): the class of each case, where the figure is an AUC."""
    seeds: tuple[int, ...]
    """(runs,): several runs of one seed count as their mean."""
    cases: tuple[str, ...] = ()
    """(cases,): their ids."""
    left_out: int = 0
    """Cases that not every run has scored; they are in no figure."""

    def figure(self, seeds: Sequence[int] | None = None) -> float:
        """The mean over seeds of the mean DSC, or of the AUC; NaN if all cases are of one class."""
        return float(self.figures(np.ones((1, self.values.shape[1])), seeds)[0])

    def figures(self, counts: Floats, seeds: Sequence[int] | None = None) -> Floats:
        """The same of many draws of cases at once, (draws,).

        Args:
            counts: (draws, cases): how often each case was drawn.
            seeds: those to take the mean over; all if not given.
        """
        shares = self._shares(seeds)
        if self.targets is None:
            return np.asarray(counts @ (shares @ self.values) / counts.sum(axis=1))
        wanted = self.targets > 0
        ones, zeros = counts[:, wanted], counts[:, ~wanted]
        signs = np.sign(self.values[:, wanted, None] - self.values[:, None, ~wanted])
        won = (np.tensordot(shares, signs, axes=1) + 1) / 2
        pairs = ones.sum(axis=1) * zeros.sum(axis=1)
        return np.where(pairs > 0, ((ones @ won) * zeros).sum(axis=1) / np.maximum(pairs, 1), np.nan)

    def case_means(self, seeds: Sequence[int]) -> Floats:
        """The mean over seeds for every case, (cases,)."""
        return np.asarray(self._shares(seeds) @ self.values)

    def of(self, cases: Sequence[str]) -> "Scores":
        """The scores of some of its cases, in this order."""
        places = [self.cases.index(case) for case in cases]
        targets = None if self.targets is None else self.targets[places]
        return self._replace(values=self.values[:, places], targets=targets, cases=tuple(cases))

    def _shares(self, seeds: Sequence[int] | None) -> Floats:
        """How much of the mean each run is, (runs,): every seed the same, and of a seed every run."""
        counts = Counter(seed for seed in self.seeds if seeds is None or seed in seeds)
        return np.array([1 / counts[seed] / len(counts) if seed in counts else 0.0 for seed in self.seeds])


def scores_of(records: Sequence[RunRecord]) -> Scores:
    """The scores of runs on the cases that all of them have, in order of their seeds.

    Raises:
        UserError: they have no case in common.
    """
    runs = sorted(records, key=lambda record: (record.seed, record.name))
    name = "dice" if "dice" in runs[0].cases[0] else "score"
    by_case = [{str(row["id"]): row for row in run.cases} for run in runs]
    ids = [case for case in by_case[0] if all(case in rows for rows in by_case)]
    if not ids:
        raise UserError(
            f"the runs {', '.join(run.name for run in runs)} have no test case in common: name some of them"
        )
    values = np.array([[float(rows[case][name]) for case in ids] for rows in by_case])
    targets = None if name == "dice" else np.array([float(by_case[0][case]["target"]) for case in ids])
    lost = len({case for rows in by_case for case in rows}) - len(ids)
    return Scores(values, targets, tuple(run.seed for run in runs), tuple(ids), lost)


def interval(scores: Scores) -> tuple[float, float]:
    """The ends of the 95 % bootstrap interval over cases; NaN where there is no figure."""
    drawn = scores.figures(_draws(scores.values.shape[1]))
    drawn = drawn[np.isfinite(drawn)]
    if not drawn.size:
        return float("nan"), float("nan")
    low, high = np.percentile(drawn, [TAIL, 100 - TAIL])
    return float(low), float(high)


def gap(mine: Scores, others: Scores) -> float | None:
    """The difference of two figures over the seeds and cases that both have, or None where it can't be told."""
    pair = _paired(mine, others)
    if pair is None:
        return None
    seeds, (first, second) = pair
    found = first.figure(seeds) - second.figure(seeds)
    return found if np.isfinite(found) else None


def p_value(mine: Scores, others: Scores) -> float | None:
    """Two-sided p value of the difference over cases: Wilcoxon's signed ranks for DSC, the bootstrap for AUC."""
    pair = _paired(mine, others)
    if pair is None:
        return None
    seeds, (left, right) = pair
    if left.targets is None:
        from scipy.stats import wilcoxon

        first, second = left.case_means(seeds), right.case_means(seeds)
        return 1.0 if np.array_equal(first, second) else float(wilcoxon(first, second).pvalue)
    draws = _draws(left.values.shape[1])
    gaps = left.figures(draws, seeds) - right.figures(draws, seeds)
    gaps = gaps[np.isfinite(gaps)]
    if not gaps.size:
        return None
    return float(min(1.0, 2 * (min((gaps <= 0).sum(), (gaps >= 0).sum()) + 1) / (gaps.size + 1)))


def holm(p_values: Mapping[str, float | None]) -> dict[str, float]:
    """The p values corrected for as many comparisons, step by step from the smallest (Holm, 1979)."""
    known = sorted((value, method) for method, value in p_values.items() if value is not None)
    corrected: dict[str, float] = {}
    so_far = 0.0
    for rank, (value, method) in enumerate(known):
        so_far = max(so_far, min(1.0, (len(known) - rank) * value))
        corrected[method] = so_far
    return corrected


def _paired(mine: Scores, others: Scores) -> tuple[list[int], tuple[Scores, Scores]] | None:
    """The seeds that both have, and both on the cases that both have."""
    seeds = sorted(set(mine.seeds) & set(others.seeds))
    cases = [case for case in mine.cases if case in others.cases]
    return (seeds, (mine.of(cases), others.of(cases))) if seeds and cases else None


def _draws(count: int) -> Floats:
    """Bootstrap draws of cases, (draws, cases) counts, the same for every cell of as many cases."""
    generator = np.random.default_rng(0)
    drawn = [np.bincount(generator.integers(count, size=count), minlength=count) for _ in range(DRAWS)]
    return np.array(drawn, dtype=np.float64)
