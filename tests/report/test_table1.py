import csv
import io
from typing import Any

import numpy as np
import pytest
from scipy.stats import wilcoxon
from sklearn.metrics import roc_auc_score

from gvsl.report import as_csv, as_latex, as_markdown, table1
from gvsl.report.table1 import ColumnKey, Scores
from gvsl.results import RunRecord

ORDER = ("scratch", "gvsl", "byol", "simclr")
LINEAR = ColumnKey("linear", "hearts", "DSC")


def record(method: str, seed: int, mode: str = "linear", **more: Any) -> RunRecord:
    config = {"method": method, "mode": mode, "task": more.pop("task", "segmentation")}
    return RunRecord(
        "transfer", f"{method}-{seed}", seed, config, {"name": "hearts", "hash": "ab"}, status="finished", **more
    )


def dice_of(method: str, seed: int) -> list[float]:
    generator = np.random.default_rng([ORDER.index(method), seed])
    return list(np.clip(0.5 + 0.05 * ORDER.index(method) + 0.1 * generator.standard_normal(20), 0, 1))


def rows(values: list[float]) -> list[dict[str, Any]]:
    return [{"id": f"c{number}", "dice": value} for number, value in enumerate(values)]


@pytest.fixture
def records() -> list[RunRecord]:
    return [record(method, seed, cases=rows(dice_of(method, seed))) for method in ORDER for seed in (0, 1)]


def test_cells_equal_a_plain_recomputation(records: list[RunRecord]) -> None:
    table = table1(records, ORDER)
    assert table.columns == [LINEAR]
    assert table.methods == list(ORDER)
    raw = {}
    for method in ORDER:
        cases = np.array([dice_of(method, seed) for seed in (0, 1)])
        cell = table.cells[method, LINEAR]
        assert cell.mean == pytest.approx(100 * cases.mean())
        assert cell.low < cell.mean < cell.high
        assert (cell.cases, cell.seeds, cell.failed) == (20, (0, 1), 0)
        ours = np.array([dice_of("gvsl", seed) for seed in (0, 1)])
        if method != "gvsl":
            raw[method] = wilcoxon(cases.mean(0), ours.mean(0)).pvalue
        if method != "scratch":
            scratch = np.array([dice_of("scratch", seed) for seed in (0, 1)])
            assert cell.to_scratch == pytest.approx(100 * (cases.mean() - scratch.mean()))
    worst = 0.0
    for rank, method in enumerate(sorted(raw, key=lambda name: raw[name])):
        worst = max(worst, min(1.0, raw[method] * (3 - rank)))
        assert table.cells[method, LINEAR].p_value == pytest.approx(worst)
    assert table.cells["gvsl", LINEAR].p_value is None
    assert table.best(LINEAR) == max(ORDER, key=lambda name: table.cells[name, LINEAR].mean)


def test_the_order_of_records_does_not_matter(records: list[RunRecord]) -> None:
    assert as_csv(table1(records, ORDER)) == as_csv(table1(records[::-1], ORDER))


def test_an_auc_is_that_of_scikit_learn_and_its_interval_holds_it() -> None:
    generator = np.random.default_rng(0)
    targets = [0, 1] * 15
    records = []
    for method, signal in (("scratch", 0.0), ("gvsl", 2.0)):
        scores = [
            float(signal * target + value) for target, value in zip(targets, generator.standard_normal(30), strict=True)
        ]
        scores[1] = scores[0]  # ties count half
        cases = [{"id": str(n), "target": t, "score": s} for n, (t, s) in enumerate(zip(targets, scores, strict=True))]
        records.append(record(method, 0, task="ccc", cases=cases))
    table = table1(records, ORDER)
    key = ColumnKey("linear", "hearts", "AUC")
    for made in records:
        cell = table.cells[made.config["method"], key]
        assert cell.mean == pytest.approx(100 * roc_auc_score(targets, [row["score"] for row in made.cases]))
        assert cell.low <= cell.mean <= cell.high
    p_value = table.cells["scratch", key].p_value
    assert p_value is not None
    assert p_value < 0.05


def test_many_draws_at_once_are_the_figure_of_each() -> None:
    generator = np.random.default_rng(1)
    targets = np.array([0.0, 1.0] * 6)
    values = generator.integers(4, size=(2, 12)).astype(float)  # with ties
    draws = [generator.integers(12, size=12) for _ in range(50)]
    counts = np.array([np.bincount(drawn, minlength=12) for drawn in draws], dtype=float)
    areas = Scores(values, targets, (0, 1)).figures(counts)
    means = Scores(values, None, (0, 1)).figures(counts, [1])
    for drawn, area, mean in zip(draws, areas, means, strict=True):
        assert area == pytest.approx(np.mean([roc_auc_score(targets[drawn], row[drawn]) for row in values]))
        assert mean == pytest.approx(values[1, drawn].mean())
    one_class = np.zeros((1, 12))
    one_class[0, 0] = 12
    assert np.isnan(Scores(values, targets, (0, 1)).figures(one_class)).all()


def test_different_numbers_of_labels_have_columns_of_their_own(records: list[RunRecord]) -> None:
    few = [record(method, 0, cases=rows([0.25] * 20)) for method in ORDER]
    for made in few:
        made.config["labels"] = 5
    table = table1([*few, *records], ORDER)
    assert table.columns == [LINEAR._replace(labels=5), LINEAR]
    assert table.cells["gvsl", table.columns[0]].mean == pytest.approx(25)
    assert table.cells["gvsl", LINEAR] == table1(records, ORDER).cells["gvsl", LINEAR]
    assert "hearts, linear, 5 labels, DSC %" in as_markdown(table)
    assert {line["labels"] for line in csv.DictReader(io.StringIO(as_csv(table)))} == {"5", "all"}


def test_only_seeds_that_both_have_are_compared(records: list[RunRecord]) -> None:
    alone = [made for made in records if made.config["method"] != "scratch" or made.seed == 0]
    cell = table1(alone, ORDER).cells["byol", LINEAR]
    assert cell.mean == pytest.approx(100 * np.mean([dice_of("byol", seed) for seed in (0, 1)]))
    assert cell.to_scratch == pytest.approx(100 * (np.mean(dice_of("byol", 0)) - np.mean(dice_of("scratch", 0))))


def test_a_failed_run_shows_as_failed_and_is_in_no_mean(records: list[RunRecord]) -> None:
    lost = [made for made in records if made.config["method"] != "byol" and made.name != "simclr-1"]
    failed = [record("byol", 0), record("byol", 1), record("simclr", 1), record("byol", 0, mode="finetune", task="ccc")]
    for made in failed:
        made.status = "failed"
    table = table1([*lost, *failed], ORDER)
    assert table.cells["simclr", LINEAR].failed == 1
    assert table.cells["simclr", LINEAR].mean == pytest.approx(100 * np.mean(dice_of("simclr", 0)))
    assert "failed (2)" in as_markdown(table)
    assert ColumnKey("finetune", "hearts", "AUC") in table.columns
    assert "failed" in as_latex(table)
    lines = list(csv.DictReader(io.StringIO(as_csv(table))))
    assert [line["failed"] for line in lines if line["method"] == "byol"] == ["2", "1"]


def test_what_latex_would_take_for_its_own_is_escaped() -> None:
    made = record("a_b&{c}\\d%", 0, cases=rows([0.5, 0.6]))
    assert r"a\_b\&\{c\}\textbackslash{}d\%" in as_latex(table1([made], ORDER))
