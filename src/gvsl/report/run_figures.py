"""Single figures of single runs."""

from statistics import fmean

from gvsl.report.runs import Curve, Run

MATCHING_FIGURES = ("ncc", "ncc_affine", "ncc_identity", "folded", "dice_before", "dice_after")
END_SHARE = 0.1
"""The share of a curve's last values whose mean is the curve's end."""


def curve_end(curve: Curve) -> float:
    """The mean of the last tenth of a curve's values, at least one; NaN where one of them is not finite."""
    count = max(1, round(END_SHARE * curve.values.size))
    return float(curve.values[-count:].mean())


def mean_of_cases(run: Run, key: str) -> float | None:
    """The mean of a figure over the run's cases, or None where no case has it."""
    values = [float(row[key]) for row in run.record.cases if row.get(key) is not None]
    return fmean(values) if values else None


def held_out(run: Run, key: str) -> float | None:
    """A pre-training run's figure over its held-out pairs: the recorded mean, or else that of its rows."""
    recorded = run.record.metrics.get(f"val/{key}")
    return mean_of_cases(run, key) if recorded is None else recorded


def pretext_figures(run: Run) -> list[tuple[str, float]]:
    """A pre-training run's own figures of held-out volumes, other than those of matching, by name."""
    names = [name.removeprefix("val/") for name in run.record.metrics if name.startswith("val/")]
    return [(name, run.record.metrics[f"val/{name}"]) for name in names if name not in MATCHING_FIGURES]
