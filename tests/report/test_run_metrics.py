"""Metrics of single runs."""

from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from gvsl.records import RunRecord
from gvsl.report.run_metrics import curve_end, held_out
from gvsl.report.runs import Curve, Run


def test_curve_end_is_the_mean_of_the_last_tenth() -> None:
    values = np.arange(40.0)
    assert curve_end(Curve(values, values)) == pytest.approx(fmean([36, 37, 38, 39]))
    assert curve_end(Curve(values[:3], values[:3])) == 2


def test_held_out_takes_the_recorded_mean_or_makes_it() -> None:
    record = RunRecord("pretrain", "p", 0, {}, {}, metrics={"val/ncc": 0.3}, cases=[{"id": "a", "folded": 0.1}])
    run = Run(Path("p"), "p", "hearts", record, {}, [], [])
    assert (held_out(run, "ncc"), held_out(run, "folded"), held_out(run, "dice_after")) == (0.3, 0.1, None)
