"""What several commands print."""

from collections.abc import Callable
from pathlib import Path

from gvsl.records import RunRecord


def print_record(folder: Path, record: RunRecord) -> None:
    """What a run is worth on cases that it didn't learn from, one figure a line, and where it is.

    The ends of an interval stand behind its figure; those of single structures are in the record.
    """
    metrics = record.metrics
    for name, value in metrics.items():
        if name.startswith("train/") or name.count("/") > 1 or name.endswith(("_low", "_high")):
            continue
        ends = [metrics.get(f"{name}_{end}") for end in ("low", "high")]
        interval = f" (95 % of {ends[0]:.4g} to {ends[1]:.4g})" if None not in ends else ""
        print(f"{name:<20} {value:.4g}{interval}")
    print(f"{folder}: {record.status} in {record.seconds:.0f} s")


def summary(command: Callable[..., object]) -> str:
    """The first line of a docstring, of a command or of a method."""
    return (command.__doc__ or "").splitlines()[0]
