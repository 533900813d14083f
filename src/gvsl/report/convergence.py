"""How fast runs learn: validation scores over the steps, and the steps to 95 % of the best score (Figure 6)."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from gvsl.report.grouping import SCRATCH, ChartGroup
from gvsl.report.runs import Curve, Run

FRACTION = 0.95
SCORES = {"val_dice": "DSC", "val_auc": "AUC"}
"""Columns of a curve file that hold a validation score, and the score's name."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Speed:
    """How fast the runs of one method learn."""

    method: str
    seeds: list[int]
    best: float
    """Best validation score, a mean over seeds."""
    steps: list[float | None]
    """Steps of each run to 95 % of its own best score; None if no score is above 0."""
    gap: float | None
    """Mean difference of these steps to scratch, over the seeds that both have."""
    paired: int
    """Number of seeds that both have."""
    level_steps: list[float | None]
    """Steps of each run to 95 % of the best score of scratch (a mean over its seeds); None if it is not reached."""

    @property
    def mean_steps(self) -> float | None:
        """Mean of the steps over the seeds that have them."""
        return mean_of(self.steps)


def validation(run: Run) -> Curve | None:
    """Return a run's finite validation scores; None if there are none."""
    for name in SCORES:
        curve = run.curves.get(name)
        if curve is not None and np.isfinite(curve.values).any():
            finite = np.isfinite(curve.values)
            return Curve(curve.steps[finite], curve.values[finite])
    return None


def score_name(run: Run) -> str:
    """Return the name of a run's validation score."""
    return next(name for column, name in SCORES.items() if column in run.curves)


def steps_to(curve: Curve, level: float) -> float | None:
    """Return the first step whose score is at least `level`, or None."""
    reached = np.flatnonzero(curve.values >= level)
    return float(curve.steps[reached[0]]) if reached.size else None


def steps_to_best(curve: Curve) -> float | None:
    """Return the first step with at least 95 % of the curve's best score; None if that is not above 0."""
    best = float(curve.values.max())
    return steps_to(curve, FRACTION * best) if best > 0 else None


def speeds(group: ChartGroup) -> list[Speed]:
    """Return the speed of each arm of a group; all its runs must have validation scores."""
    scores = {name: [_scores(run) for run in runs] for name, runs in group.arms.items()}
    scratch = scores.get(SCRATCH, [])
    level = FRACTION * fmean(float(curve.values.max()) for curve in scratch) if scratch else 0.0
    by_seed = {name: _mean_steps_by_seed(runs) for name, runs in group.arms.items()}
    found = []
    for name, curves in scores.items():
        theirs = by_seed.get(SCRATCH, {})
        gaps = [steps - theirs[seed] for seed, steps in by_seed[name].items() if seed in theirs]
        found.append(
            Speed(
                method=name,
                seeds=[run.record.seed for run in group.arms[name]],
                best=fmean(float(curve.values.max()) for curve in curves),
                steps=[steps_to_best(curve) for curve in curves],
                gap=fmean(gaps) if gaps and name != SCRATCH else None,
                paired=len(gaps),
                level_steps=[steps_to(curve, level) for curve in curves] if level > 0 else [],
            )
        )
    return found


def mean_curve(runs: Sequence[Run]) -> tuple[Array, Array, Array, Array]:
    """Return the steps at which every run was validated, and the mean, minimum and maximum score at each."""
    curves = [_scores(run) for run in runs]
    steps = curves[0].steps
    for curve in curves[1:]:
        steps = np.intersect1d(steps, curve.steps)
    table = np.stack([curve.values[np.searchsorted(curve.steps, steps)] for curve in curves])
    return steps, table.mean(axis=0), table.min(axis=0), table.max(axis=0)


def mean_of(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are not None, or None if there are none."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _mean_steps_by_seed(runs: Sequence[Run]) -> dict[int, float]:
    """Return the mean steps to 95 % of the best score by seed, for seeds with at least one such run."""
    found: dict[int, list[float | None]] = defaultdict(list)
    for run in runs:
        found[run.record.seed].append(steps_to_best(_scores(run)))
    means = {seed: mean_of(steps) for seed, steps in found.items()}
    return {seed: steps for seed, steps in means.items() if steps is not None}


def _scores(run: Run) -> Curve:
    found = validation(run)
    assert found is not None  # a group is of runs that have them
    return found
