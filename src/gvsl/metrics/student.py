"""Student's t interval, for means of a few independent values, whose bootstrap intervals are too short."""

from collections.abc import Sequence
from math import sqrt
from statistics import fmean, stdev

from gvsl.metrics.bootstrap import MIN_CASES, TAIL, Interval


def t_interval(values: Sequence[float]) -> Interval | None:
    """Return the 95 % interval of the mean of independent, nearly normal values; None of fewer than 5.

    Source: Student (1908). The probable error of a mean. Biometrika 6.
    """
    from scipy.stats import t

    count = len(values)
    if count < MIN_CASES:
        return None
    half = float(t.ppf(1 - TAIL / 100, count - 1)) * stdev(values) / sqrt(count)
    return fmean(values) - half, fmean(values) + half
