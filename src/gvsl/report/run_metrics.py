"""Metrics of single runs: on which volumes they were measured, means over cases, ends of curves, and their names."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from gvsl.records import RunRecord
from gvsl.records.matching import MATCHING_METRICS
from gvsl.report.runs import Curve, Run
from gvsl.splits import HELD_OUT, SPLITS

END_FRACTION = 0.1
"""The fraction of a curve's values, the last ones, whose mean is the curve's end."""
EARLIER_TITLES: Mapping[str, tuple[str, str | None]] = {
    "loss": ("Total loss", "lower"),
    "ncc": ("NCC loss", "lower"),
    "ncc_affine": ("NCC loss of the affine part", "lower"),
    "ncc_identity": ("NCC loss without warping", None),
    "smoothness": ("Smoothness loss", "lower"),
    "folded": ("Fraction of voxels with a non-positive Jacobian", "lower"),
    "restoration": ("Restoration error (MSE)", "lower"),
    "restoration_identity": ("Error of the damaged volume (MSE)", None),
    "accuracy": ("Accuracy", "higher"),
    "twin_accuracy": ("Instance retrieval accuracy", "higher"),
    "twin_chance": ("Chance level of instance retrieval", None),
    "embedding_std": ("Standard deviation of the embeddings", "higher"),
    "effective_rank": ("Effective rank of the embeddings", "higher"),
    "clusters_used": ("Clusters in use", "higher"),
    "cluster_smallest": ("Smallest cluster (fraction of the volumes)", "higher"),
    "cluster_largest": ("Largest cluster (fraction of the volumes)", "lower"),
    "nmi": ("NMI with the previous assignment", None),
}
"""Title and better direction of the metrics in records whose method doesn't declare them (before 2026-11-27)."""
LOGGED = "train"
"""The prefix of metrics that training logged; those of an evaluation have the name of its split."""


def evaluated_split(record: RunRecord) -> str | None:
    """Return the split whose volumes a pre-training was evaluated on; None if it was not, or the record doesn't tell.

    It is `pretrain`, whose volumes it was trained on, where the store has none in `val`, or one where pairs are
    matched; of several, too.
    """
    splits = [split for split in SPLITS if split != LOGGED]  # `pretrain` is the first
    return next((split for split in splits if any(name.startswith(f"{split}/") for name in record.metrics)), None)


def is_held_out(record: RunRecord) -> bool:
    """Return True if a pre-training was evaluated on volumes that it was not trained on."""
    return evaluated_split(record) in HELD_OUT


def evaluated(runs: Sequence[Run], things: str) -> str:
    """Name what pre-trainings were evaluated on: "held-out pairs", "training pairs", or "pairs" if unknown.

    Args:
        runs: one, or several that share a line.
        things: such as "pairs".
    """
    splits = [evaluated_split(run.record) for run in runs]
    if None in splits:
        return things
    words = {"held-out" if split in HELD_OUT else "training" for split in splits}
    return f"{' and '.join(sorted(words))} {things}"


def curve_end(curve: Curve) -> float:
    """Return the mean of the last tenth of a curve's values, at least one; NaN if one of them is not finite."""
    count = max(1, round(END_FRACTION * curve.values.size))
    return float(curve.values[-count:].mean())


def mean_of_cases(run: Run, key: str) -> float | None:
    """Return the mean of a metric over the run's cases, or None if no case has it."""
    values = [float(row[key]) for row in run.record.cases if row.get(key) is not None]
    return fmean(values) if values else None


def measured(run: Run, key: str) -> float | None:
    """Return a pre-training run's metric over the evaluated pairs: the recorded mean, or else that of its rows."""
    recorded = run.record.metrics.get(f"{evaluated_split(run.record)}/{key}")
    return mean_of_cases(run, key) if recorded is None else recorded


def pretext_metrics(run: Run) -> list[tuple[str, float]]:
    """Return a pre-training run's metrics on the evaluated volumes, other than those of matching, by name."""
    matching = {metric.name for metric in MATCHING_METRICS}
    start = f"{evaluated_split(run.record)}/"
    found = {name.removeprefix(start): value for name, value in run.record.metrics.items() if name.startswith(start)}
    return [(name, value) for name, value in found.items() if name not in matching]


def title_of(run: Run, name: str) -> str:
    """Return a heading for a logged metric: as its method declares it, or its name if nothing declares it."""
    return _declared(run, name)[0] or name.replace("_", " ")


def better_of(run: Run, name: str) -> str | None:
    """Return the better direction of a logged metric, `higher` or `lower`; None for a baseline or if unknown."""
    return _declared(run, name)[1]


def _declared(run: Run, name: str) -> tuple[str | None, str | None]:
    for metric in run.record.logged:
        if metric["name"] == name:
            return metric["title"], metric["better"]
    return EARLIER_TITLES.get(name, (None, None))
