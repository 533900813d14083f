"""Bootstrap intervals over cases, and the step at which a score comes near its best. Imports no torch."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

DRAWS = 2000
TAIL = 2.5
"""Per cent of the draws left out on each side of a 95 % interval."""
MIN_CASES = 5
"""With fewer cases an interval means nothing: that of three is their minimum and maximum, which miss the truth in one
of four experiments, and all of them are ahead by chance in more than one of 32."""
FRACTION = 0.95
"""Fraction of a run's best validation score; the step that reaches it measures how fast the run learns (Figure 6)."""

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Interval = tuple[float, float]
"""Lower and upper end."""


def draw_indices(count: int) -> Indices:
    """Draw 2,000 times `count` of `count` cases with replacement: indices, (2000, count).

    The draws depend on the count alone, so that intervals of several statistics or runs belong to the same draws.
    """
    generator = np.random.default_rng(0)
    return generator.integers(count, size=(DRAWS, count))


def draw_counts(count: int) -> Floats:
    """Return how often `draw_indices` draws each case: (2000, count)."""
    return np.array([np.bincount(drawn, minlength=count) for drawn in draw_indices(count)], dtype=np.float64)


def percentile_interval(values: ArrayLike) -> tuple[float, float]:
    """Return the 95 % percentile interval of a statistic's draws, without those that are NaN; NaN if all are."""
    drawn = np.asarray(values, dtype=np.float64)
    drawn = drawn[np.isfinite(drawn)]
    if not drawn.size:
        return float("nan"), float("nan")
    low, high = np.percentile(drawn, [TAIL, 100 - TAIL])
    return float(low), float(high)


def interval_of(cases: int, values: ArrayLike) -> Interval | None:
    """Return the 95 % percentile interval of a statistic's draws; None if it means nothing.

    Args:
        cases: the number of cases; fewer than 5 have no interval.
        values: the statistic of each draw of them, NaN where it is not defined; no interval if all are.
    """
    low, high = percentile_interval(values)
    return (low, high) if cases >= MIN_CASES and math.isfinite(low) else None


def recorded_interval(metrics: Mapping[str, float], name: str, cases: int) -> Interval | None:
    """Return the interval of a metric as a record has it; None if it has none, or of fewer than 5 cases.

    Args:
        metrics: of the record; the ends of the interval are `name`_low and `name`_high.
        name: of the metric.
        cases: the record's number of cases. Records from before this limit have intervals of any number.
    """
    low, high = metrics.get(f"{name}_low", math.nan), metrics.get(f"{name}_high", math.nan)
    return (low, high) if cases >= MIN_CASES and math.isfinite(low) and math.isfinite(high) else None


def bootstrap(count: int, statistic: Callable[[Indices], float]) -> tuple[float, float]:
    """Return the 95 % percentile interval of a statistic over cases drawn with replacement, 2,000 times.

    Args:
        count: of cases.
        statistic: maps the indices of drawn cases to a value; NaN where it is not defined for them.
    """
    return percentile_interval([statistic(drawn) for drawn in draw_indices(count)])


def mean_with_interval(name: str, values: Sequence[float]) -> dict[str, float]:
    """Return the mean over cases as `name`, and the ends of its interval as `name`_low and `name`_high.

    Fewer than 5 cases have no interval, so that these two are missing.
    """
    array = np.asarray(values, dtype=np.float64)
    mean = {name: float(array.mean())}
    ends = interval_of(array.size, array[draw_indices(array.size)].mean(axis=1))
    return mean if ends is None else mean | {f"{name}_low": ends[0], f"{name}_high": ends[1]}


def steps_to_level(steps: Sequence[float] | Floats, scores: Sequence[float] | Floats, level: float) -> float | None:
    """Return the first step whose score is at least `level`, or None."""
    return next((float(step) for step, score in zip(steps, scores, strict=True) if score >= level), None)


def steps_to_fraction(steps: Sequence[float] | Floats, scores: Sequence[float] | Floats) -> float | None:
    """Return the first step whose score is at least 95 % of the best; None if all scores are negative."""
    return steps_to_level(steps, scores, FRACTION * max(scores))
