"""Scores over cases and seeds, their spreads, and the difference of two arms."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gvsl.report.runs import Run

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """A mean with two standard deviations (n - 1), each None for a single value."""

    mean: float
    over_cases: float | None
    over_seeds: float | None
    cases: int
    seeds: int


@dataclass(frozen=True)
class Difference:
    """One arm minus another, over the cases given and the seeds that both have."""

    mean: float
    over_cases: float | None
    over_seeds: float | None
    cases_ahead: int
    cases: int
    seeds_ahead: int
    seeds: int


def case_ids(runs: Iterable[Run]) -> list[str]:
    """Return the cases that all runs have scored, sorted."""
    sets = [{str(row["id"]) for row in run.record.cases} for run in runs]
    return sorted(set.intersection(*sets)) if sets else []


def seeds_of(runs: Iterable[Run]) -> list[int]:
    """Return the distinct seeds, sorted."""
    return sorted({run.record.seed for run in runs})


def of_common_seeds(first: Sequence[Run], second: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """Return the runs of each arm whose seed the other arm has too."""
    common = set(seeds_of(first)) & set(seeds_of(second))
    return [run for run in first if run.record.seed in common], [run for run in second if run.record.seed in common]


def scores(runs: Sequence[Run], cases: Sequence[str], key: str) -> Array:
    """Return the metric `key` of each seed and case, (seeds, cases): a mean over the seed's runs, NaN if missing."""
    seeds = seeds_of(runs)
    table = np.full((len(seeds), len(cases)), np.nan)
    for line, seed in enumerate(seeds):
        table[line] = case_means(_by_run([run for run in runs if run.record.seed == seed], cases, key))
    return table


def case_means(table: Array) -> Array:
    """Return the mean over the rows for every case, (cases,); NaN for a case without values."""
    counts = np.isfinite(table).sum(axis=0)
    sums = np.where(np.isfinite(table), table, 0.0).sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def row_means(table: Array) -> Array:
    """Return the mean over the cases for every row, (rows,)."""
    return case_means(table.T)


def spread(table: Array) -> Spread:
    """Return the mean of a table (seeds, cases), its spread over cases (seeds averaged first) and over seeds."""
    cases = _finite(case_means(table))
    seeds = _finite(row_means(table))
    mean = float(cases.mean()) if cases.size else float("nan")
    return Spread(mean, _deviation(cases), _deviation(seeds), int(cases.size), int(seeds.size))


def difference(mine: Sequence[Run], other: Sequence[Run], cases: Sequence[str], key: str) -> Difference:
    """Return one arm minus another in the metric `key`, over the same cases and the seeds that both have.

    The mean is NaN if they have no seed in common.
    """
    gaps = np.subtract(*(scores(runs, cases, key) for runs in of_common_seeds(mine, other)))
    by_case, by_seed = _finite(case_means(gaps)), _finite(row_means(gaps))
    return Difference(
        mean=float(by_case.mean()) if by_case.size else float("nan"),
        over_cases=_deviation(by_case),
        over_seeds=_deviation(by_seed),
        cases_ahead=int((by_case > 0).sum()),
        cases=int(by_case.size),
        seeds_ahead=int((by_seed > 0).sum()),
        seeds=int(by_seed.size),
    )


def structures(runs: Sequence[Run]) -> list[str]:
    """Return the structures that the cases are scored by, in the order of their labels."""
    found = {key.removeprefix("dice/") for run in runs for row in run.record.cases for key in row if "dice/" in key}
    by_label = {name: None for run in runs for name in run.record.labels.values()}
    return [name for name in by_label if name in found] + sorted(found - by_label.keys())


def _by_run(runs: Sequence[Run], cases: Sequence[str], key: str) -> Array:
    """Return the metric of each run and case, (runs, cases); NaN if a run lacks it."""
    table = np.full((len(runs), len(cases)), np.nan)
    for line, run in enumerate(runs):
        rows = {str(row["id"]): row for row in run.record.cases}
        for column, case in enumerate(cases):
            value = rows.get(case, {}).get(key)
            table[line, column] = np.nan if value is None else float(value)
    return table


def _finite(values: Array) -> Array:
    return values[np.isfinite(values)]


def _deviation(values: Array) -> float | None:
    return float(values.std(ddof=1)) if values.size > 1 else None
