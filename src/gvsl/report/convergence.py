"""How fast runs learn: validation scores over the steps, and the steps to 95 % of the best score (Figure 6)."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from gvsl.metrics.bootstrap import FRACTION, steps_to_fraction, steps_to_level
from gvsl.report.grouping import SCRATCH, Group
from gvsl.report.numbers import mean_of
from gvsl.report.run_arrays import Array
from gvsl.report.runs import Curve, Run

SCORES = {"val_dice": "DSC", "val_auc": "AUC"}
"""Columns of a curve file that hold a validation score, and the score's name."""


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
    curves = [run.curves[name].finite() for name in SCORES if name in run.curves]
    return next((curve for curve in curves if curve.values.size), None)


def score_name(run: Run) -> str:
    """Return the name of a run's validation score."""
    return next(name for column, name in SCORES.items() if column in run.curves)


def steps_to_best(curve: Curve) -> float | None:
    """Return the first step with at least 95 % of the curve's best score; None if that is not above 0."""
    return steps_to_fraction(curve.steps, curve.values) if curve.values.max() > 0 else None


def speeds(group: Group) -> list[Speed]:
    """Return the speed of each arm of a group; all its runs must have validation scores."""
    curves = {name: [_scores(run) for run in runs] for name, runs in group.arms.items()}
    best = {name: fmean(float(curve.values.max()) for curve in found) for name, found in curves.items()}
    level = FRACTION * best.get(SCRATCH, 0.0)
    steps = {name: [steps_to_best(curve) for curve in found] for name, found in curves.items()}
    by_seed = {name: _mean_by_seed(runs, steps[name]) for name, runs in group.arms.items()}
    theirs = by_seed.get(SCRATCH, {})
    found = []
    for name, runs in group.arms.items():
        gaps = [mine - theirs[seed] for seed, mine in by_seed[name].items() if seed in theirs]
        found.append(
            Speed(
                method=name,
                seeds=[run.record.seed for run in runs],
                best=best[name],
                steps=steps[name],
                gap=fmean(gaps) if gaps and name != SCRATCH else None,
                paired=len(gaps),
                level_steps=[steps_to_level(curve.steps, curve.values, level) for curve in curves[name] if level > 0],
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


def _mean_by_seed(runs: Sequence[Run], steps: Sequence[float | None]) -> dict[int, float]:
    """Return the mean steps of each seed with at least one run that has them."""
    found: dict[int, list[float]] = defaultdict(list)
    for run, own in zip(runs, steps, strict=True):
        if own is not None:
            found[run.record.seed].append(own)
    return {seed: fmean(own) for seed, own in found.items()}


def _scores(run: Run) -> Curve:
    found = validation(run)
    assert found is not None  # a group is of runs that have them
    return found
