"""How fast runs learn: validation scores over the steps, and the steps to 95 % (Figure 6)."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from gvsl.report.grouping import SCRATCH, ChartGroup
from gvsl.report.runs import Curve, Run

SHARE = 0.95
SCORES = {"val_dice": "DSC", "val_auc": "AUC"}
"""The columns of a curve file that hold a validation score."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Speed:
    """How fast the runs of one method learn."""

    method: str
    seeds: list[int]
    best: float
    """The best validation score, a mean over seeds."""
    steps: list[float | None]
    """To 95 % of each seed's own best score; None where no score is above 0."""
    gap: float | None
    """Mean of the difference to scratch, over the seeds that both have."""
    shared: int
    """How many seeds those are."""
    level_steps: list[float | None]
    """To 95 % of the best score of scratch, a mean over its seeds; None for a seed that doesn't get there."""

    @property
    def mean_steps(self) -> float | None:
        """The mean over the seeds that have such a step."""
        return mean_of(self.steps)


def validation(run: Run) -> Curve | None:
    """A run's validation scores, without those that are no number; None where there are none."""
    for name in SCORES:
        curve = run.curves.get(name)
        if curve is not None and np.isfinite(curve.values).any():
            there = np.isfinite(curve.values)
            return Curve(curve.steps[there], curve.values[there])
    return None


def score_name(run: Run) -> str:
    """What a run's validation score is called."""
    return next(said for name, said in SCORES.items() if name in run.curves)


def steps_to(curve: Curve, level: float) -> float | None:
    """The first step whose score is at least `level`, or None."""
    reached = np.flatnonzero(curve.values >= level)
    return float(curve.steps[reached[0]]) if reached.size else None


def steps_to_share(curve: Curve) -> float | None:
    """The first step with at least 95 % of the curve's best score; None where that isn't above 0."""
    best = float(curve.values.max())
    return steps_to(curve, SHARE * best) if best > 0 else None


def speeds(study: ChartGroup) -> list[Speed]:
    """One for each method of a study whose runs all have validation scores."""
    scratch = study.arms.get(SCRATCH, [])
    theirs: dict[int, list[float | None]] = defaultdict(list)
    for run in scratch:
        theirs[run.record.seed].append(steps_to_share(_scores(run)))
    level = SHARE * fmean(_best(run) for run in scratch) if scratch else None
    found = []
    for name, runs in study.arms.items():
        mine: dict[int, list[float | None]] = defaultdict(list)
        for run in runs:
            mine[run.record.seed].append(steps_to_share(_scores(run)))
        pairs = [(mean_of(steps), mean_of(theirs.get(seed, []))) for seed, steps in mine.items()]
        gaps = [own - other for own, other in pairs if own is not None and other is not None]
        found.append(
            Speed(
                method=name,
                seeds=[run.record.seed for run in runs],
                best=fmean(_best(run) for run in runs),
                steps=[steps_to_share(_scores(run)) for run in runs],
                gap=fmean(gaps) if gaps and name != SCRATCH else None,
                shared=len(gaps),
                level_steps=[steps_to(_scores(run), level) for run in runs] if level is not None and level > 0 else [],
            )
        )
    return found


def mean_curve(runs: Sequence[Run]) -> tuple[Array, Array, Array, Array]:
    """The steps at which every run was validated, and there the mean, the least and the greatest score."""
    curves = [_scores(run) for run in runs]
    steps = curves[0].steps
    for curve in curves[1:]:
        steps = np.intersect1d(steps, curve.steps)
    table = np.stack([curve.values[np.searchsorted(curve.steps, steps)] for curve in curves])
    return steps, table.mean(axis=0), table.min(axis=0), table.max(axis=0)


def mean_of(values: Sequence[float | None]) -> float | None:
    """The mean of the values that are there, or None."""
    there = [value for value in values if value is not None]
    return fmean(there) if there else None


def _scores(run: Run) -> Curve:
    found = validation(run)
    assert found is not None  # a study is of runs that have them
    return found


def _best(run: Run) -> float:
    return float(_scores(run).values.max())
