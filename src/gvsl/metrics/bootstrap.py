"""Bootstrap intervals over cases."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
COVERED = 95.0
"""Per cent of the draws that an interval covers, as many left out below as above."""
STEPS_SHARE = 0.95

Figures = NDArray[np.float64]


def bootstrap(count: int, statistic: Callable[[NDArray[np.int64]], float | None]) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic over cases drawn with replacement, 2,000 times.

    The draws are the same for every statistic of as many cases, so intervals of two runs on one test split belong
    to the same draws.

    Args:
        count: of cases.
        statistic: the indices of the cases drawn to the figure; None where those cases have none, and then the
            draw is left out.
    """
    generator = np.random.default_rng(0)
    drawn = [statistic(generator.integers(count, size=count)) for _ in range(DRAWS)]
    tail = (100 - COVERED) / 2
    low, high = np.percentile([value for value in drawn if value is not None], [tail, 100 - tail])
    return float(low), float(high)


def mean_with_interval(name: str, values: Sequence[float]) -> dict[str, float]:
    """`name`, the mean over cases, and the ends of its interval, `name`_low and `name`_high."""
    array = np.asarray(values, dtype=np.float64)
    low, high = bootstrap(array.size, lambda drawn: float(array[drawn].mean()))
    return {name: float(array.mean()), f"{name}_low": low, f"{name}_high": high}


def steps_to_share(rows: Sequence[Mapping[str, Any]], key: str) -> int:
    """The first validated step whose score is at least 95 % of the best."""
    scored = [(int(row["step"]), float(row[key])) for row in rows if key in row]
    best = max(score for _, score in scored)
    return next(step for step, score in scored if score >= STEPS_SHARE * best)
