"""Metrics of single runs."""

from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from gvsl.records import RunRecord
from gvsl.report.run_metrics import curve_end, evaluated, evaluated_split, is_held_out, measured
from gvsl.report.runs import Curve, Run


def test_curve_end_is_the_mean_of_the_last_tenth() -> None:
    values = np.arange(40.0)
    assert curve_end(Curve(values, values)) == pytest.approx(fmean([36, 37, 38, 39]))
    assert curve_end(Curve(values[:3], values[:3])) == 2


@pytest.mark.parametrize(
    ("names", "split", "words"),
    [
        (("train/ncc", "val/ncc"), "val", "held-out pairs"),
        (("train/ncc", "test/ncc"), "test", "held-out pairs"),
        (("train/ncc", "pretrain/ncc"), "pretrain", "training pairs"),
        (("val/ncc", "pretrain/ncc"), "pretrain", "training pairs"),  # of which the rows are is not known
        (("train/ncc",), None, "pairs"),
    ],
)
def test_the_split_that_was_evaluated_is_that_of_the_metrics(
    names: tuple[str, ...], split: str | None, words: str
) -> None:
    record = RunRecord("pretrain", "p", 0, {}, {}, metrics={name: 0.1 * number for number, name in enumerate(names)})
    run = Run(Path("p"), "p", "hearts", record, {}, [], [])
    assert evaluated_split(record) == split
    assert is_held_out(record) is (split in ("val", "test"))
    assert evaluated([run], "pairs") == words
    assert measured(run, "ncc") == (record.metrics[f"{split}/ncc"] if split else None)


def test_a_metric_is_the_recorded_mean_or_makes_it() -> None:
    record = RunRecord("pretrain", "p", 0, {}, {}, metrics={"val/ncc": 0.3}, cases=[{"id": "a", "folded": 0.1}])
    run = Run(Path("p"), "p", "hearts", record, {}, [], [])
    assert (measured(run, "ncc"), measured(run, "folded"), measured(run, "dice_after")) == (0.3, 0.1, None)
