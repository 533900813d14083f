"""What the figures of a model card claim of cases that are few, or were trained on."""

from pathlib import Path
from typing import Any

import pytest

from gvsl.publication.figures import figures
from gvsl.records import RunRecord
from gvsl.report.runs import Run


def run(kind: Any, metrics: dict[str, float], cases: list[dict[str, Any]]) -> Run:
    config = {"mode": "scratch", "weights": "scratch", "method": "gvsl"}
    record = RunRecord(kind, "run", 0, config, {"name": "s", "hash": "1"}, "finished", metrics=metrics, cases=cases)
    return Run(Path("run"), "run", "s", record, {}, [], [])


@pytest.mark.parametrize(("count", "shown"), [(1, False), (4, False), (5, True)])
def test_fewer_than_five_cases_have_no_interval(count: int, shown: bool) -> None:
    recorded = {"test/dice": 0.8, "test/dice_low": 0.7, "test/dice_high": 0.9}
    scored = run("transfer", recorded, [{"id": str(n), "dice": 0.8} for n in range(count)])
    matched = run("pretrain", {"val/ncc": 0.5}, [{"id": str(n), "ncc": 0.5} for n in range(count)])
    for each, ends in ((scored, (0.7, 0.9)), (matched, (0.5, 0.5))):
        (figure,) = figures(each)
        assert figure.interval == (ends if shown else None)
