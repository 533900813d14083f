"""Output shared by several commands."""

from collections.abc import Callable
from pathlib import Path

from gvsl.records import RunRecord


def print_record(folder: Path, record: RunRecord) -> None:
    """Print a run's metrics on cases that it was not trained on, one per line with its interval, and its folder.

    Metrics of single structures are left to the record.
    """
    metrics = record.metrics
    for name, value in metrics.items():
        if name.startswith("train/") or name.count("/") > 1 or name.endswith(("_low", "_high")):
            continue
        ends = [metrics.get(f"{name}_{end}") for end in ("low", "high")]
        interval = f" (95 % CI {ends[0]:.4g} to {ends[1]:.4g})" if None not in ends else ""
        print(f"{name:<20} {value:.4g}{interval}")
    print(f"{folder}: {record.status} in {record.seconds:.0f} s")


def summary(command: Callable[..., object]) -> str:
    """Return the first line of the docstring of a command or a method."""
    return (command.__doc__ or "").splitlines()[0]
