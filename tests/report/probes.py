"""Transfer runs made of a few scores, in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gvsl.records import RunRecord
from gvsl.report.runs import Run, store_names


def probe(seed: int, dice: dict[str, float], weights: str = "w", **changes: Any) -> Run:
    """A finished transfer run with the DSC of each case."""
    config = {"mode": "linear", "weights": weights, "method": "scratch" if weights == "scratch" else "gvsl"}
    record: dict[str, Any] = {
        "kind": "transfer",
        "name": "probe",
        "seed": seed,
        "config": config | changes.pop("config", {}),
        "store": {"name": "hearts", "hash": "1"},
        "status": "finished",
        "cases": [{"id": case, "dice": value} for case, value in dice.items()],
    }
    full = RunRecord(**(record | changes))
    return Run(Path("run"), f"probe {seed} {weights}", full.store["name"], full, {}, [], [])


MINE = [probe(0, {"a": 0.7, "b": 0.5, "c": 0.6}), probe(1, {"a": 0.8, "b": 0.5, "c": 0.4})]
OTHER = [
    probe(0, {"a": 0.5, "b": 0.6, "c": 0.4}, "scratch"),
    probe(1, {"a": 0.4, "b": 0.5, "c": 0.3}, "scratch"),
]


def runs_of(records: Sequence[RunRecord]) -> list[Run]:
    """Runs of records in memory."""
    stores = store_names(records)
    return [
        Run(Path(record.name), record.name, store, record, {}, [], [])
        for record, store in zip(records, stores, strict=True)
    ]
