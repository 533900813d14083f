"""Table 1 in the page, on the records that the repository keeps."""

import json
import re
from pathlib import Path

import numpy as np

from gvsl.report.data import read_report
from gvsl.report.sections.all_methods import all_methods
from gvsl.report.table1.table import ColumnKey, Table

RECORDS = Path(__file__).parents[3] / "docs" / "records"


def test_other_pre_training_of_a_method_has_a_row_of_its_own() -> None:
    html = all_methods(read_report([RECORDS]).table1)
    assert html is not None
    rows = dict(re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', html.code))
    assert {"gvsl", "gvsl (2400 steps)", "gvsl (fusion paper)"} <= rows.keys()
    scores = [
        [
            row["dice"]
            for row in json.loads((RECORDS / f"linear-hippocampus-gvsl-{seed}" / "record.json").read_text())["cases"]
        ]
        for seed in range(3)
    ]
    assert f">{100 * np.mean(scores):.1f}<" in rows["gvsl"]


def test_columns_of_other_settings_are_told_apart() -> None:
    keys = [ColumnKey("linear", "hearts", "DSC", settings=f"learning_rate {rate}") for rate in ("0.1", "0.01")]
    html = all_methods(Table(["scratch", "gvsl"], keys))
    assert html is not None
    assert re.findall(r"<span>(learning_rate.*?)</span>", html.code) == [
        "learning_rate 0.1, DSC",
        "learning_rate 0.01, DSC",
    ]
