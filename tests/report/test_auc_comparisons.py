"""Comparisons of AUC, which are those of Table 1; runs of classification are not broken segmentations."""

from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import roc_auc_score

from gvsl.records import RunRecord
from gvsl.report.data import ReportData
from gvsl.report.grouping import RANDOM
from gvsl.report.run_findings import findings
from gvsl.report.runs import Run

TARGETS = [0, 1] * 4
GOOD = [0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.4, 0.6]
MIXED = [0.1, 0.9, 0.8, 0.2, 0.3, 0.7, 0.6, 0.4]


def run(method: str, scores: list[float], mode: str = "linear", **config: Any) -> Run:
    cases = [{"id": f"c{n}", "target": t, "score": s} for n, (t, s) in enumerate(zip(TARGETS, scores, strict=True))]
    settings = {"mode": mode, "method": method, "weights": "scratch" if method == "scratch" else "w", "task": "ccc"}
    name = f"{method} {mode}"
    record = RunRecord("transfer", name, 0, settings | config, {"name": "lungs", "hash": "1"}, status="finished")
    record.cases.extend(cases)
    return Run(Path(name), name, "lungs", record, {}, [], [])


def test_methods_are_compared_with_random_features_of_their_protocol() -> None:
    runs = [run("gvsl", GOOD), run("scratch", MIXED), run("gvsl", MIXED, "finetune"), run("scratch", GOOD, "scratch")]
    data = ReportData(runs)
    linear, fine = data.aucs
    assert (linear.protocol, fine.protocol) == ("linear", "finetune")
    good, mixed = (100 * roc_auc_score(TARGETS, scores) for scores in (GOOD, MIXED))
    assert linear.mine.mean == pytest.approx(good)
    assert linear.random is not None
    assert linear.random.mean == pytest.approx(mixed)
    assert [shown.mine.to_scratch for shown in data.aucs] == pytest.approx([good - mixed, mixed - good])
    assert fine.outcome == "pre-training is not ahead"
    assert "AUC 1.000" in linear.verdict
    assert "linear on random features: 0.625" in linear.verdict
    assert "trained from scratch: 1.000" in fine.verdict
    assert data.headline == ("Pre-training is ahead in 1 of 1 linear and 0 of 1 fine-tuned comparisons")


def test_few_cases_give_no_interval() -> None:
    runs = [run("gvsl", GOOD), run("scratch", [0.9, 0.1, 0.2, 0.8, 0, 0, 0, 0])]
    for each in runs:
        del each.record.cases[4:]
        each.record.metrics.update({"test/auc": 0.75, "test/auc_low": 0.5, "test/auc_high": 1.0})
    (shown,) = ReportData(runs).aucs
    assert shown.outcome == "pre-training is ahead, in 4 cases, too few for an interval"
    assert "[" not in shown.verdict
    told = [finding.text for finding in findings(runs, [])]
    assert len(told) == 2 and all("not known if the AUC is above chance (0.750 over 4 cases)" in text for text in told)


def test_random_features_alone_are_not_compared() -> None:
    (alone,) = ReportData([run("scratch", MIXED)]).aucs
    assert alone.arm == RANDOM
    assert alone.outcome == "there is nothing to compare with"
    assert alone.mine.to_scratch is None


def test_different_numbers_of_labels_are_not_compared() -> None:
    runs = [run("gvsl", GOOD, labels=5), run("gvsl", MIXED, labels=20), run("scratch", MIXED, labels=20)]
    assert [(each.store, each.random is None) for each in ReportData(runs).aucs] == [
        ("lungs, 5 labels", True),
        ("lungs, 20 labels", False),
    ]


def test_a_classification_is_no_broken_segmentation() -> None:
    runs = [run("gvsl", GOOD), run("scratch", MIXED)]
    assert ReportData(runs).compared == []
    assert [finding for finding in findings(runs, []) if finding.level != "caution"] == []
    runs[0].record.cases.clear()
    assert [finding.level for finding in findings(runs, [])] == ["broken"]
