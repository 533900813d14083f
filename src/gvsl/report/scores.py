"""Scores over cases and seeds, their spreads, and the difference of two arms."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gvsl.report.run_arrays import Array
from gvsl.report.runs import Run


@dataclass(frozen=True)
class Spread:
    """The mean of scores, or of their differences between two arms, with two standard deviations (n - 1)."""

    mean: float
    """NaN if there are no values."""
    over_cases: float | None
    over_seeds: float | None
    """None for a single value."""
    cases: int
    seeds: int
    cases_ahead: int
    seeds_ahead: int
    """Of a difference: the number of cases and of seeds in which the first arm is ahead."""


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
        rows = [{str(row["id"]): row.get(key) for row in run.record.cases} for run in runs if run.record.seed == seed]
        table[line] = case_means(np.array([[each.get(case) for case in cases] for each in rows], np.float64))
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
    cases, seeds = _finite(case_means(table)), _finite(row_means(table))
    return Spread(
        mean=float(cases.mean()) if cases.size else float("nan"),
        over_cases=_deviation(cases),
        over_seeds=_deviation(seeds),
        cases=int(cases.size),
        seeds=int(seeds.size),
        cases_ahead=int((cases > 0).sum()),
        seeds_ahead=int((seeds > 0).sum()),
    )


def difference(mine: Sequence[Run], other: Sequence[Run], cases: Sequence[str], key: str) -> Spread:
    """Return one arm minus another in the metric `key`, over the same cases and the seeds that both have."""
    return spread(np.subtract(*(scores(runs, cases, key) for runs in of_common_seeds(mine, other))))


def structures(runs: Sequence[Run]) -> list[str]:
    """Return the structures that the cases are scored by, in the order of their labels."""
    found = {key.removeprefix("dice/") for run in runs for row in run.record.cases for key in row if "dice/" in key}
    by_label = {name: None for run in runs for name in run.record.labels.values()}
    return [name for name in by_label if name in found] + sorted(found - by_label.keys())


def _finite(values: Array) -> Array:
    return values[np.isfinite(values)]


def _deviation(values: Array) -> float | None:
    return float(values.std(ddof=1)) if values.size > 1 else None
