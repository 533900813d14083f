import csv
import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import wilcoxon
from sklearn.metrics import roc_auc_score

from gvsl.errors import UserError
from gvsl.records import RunRecord
from gvsl.report import ReportData, as_csv, as_latex, as_markdown
from gvsl.report.table1.table import ColumnKey, Table

from ..probes import runs_of

ORDER = ("scratch", "gvsl", "byol", "simclr")
LINEAR = ColumnKey("linear", "hearts", "DSC")


def record(method: str, seed: int, mode: str = "linear", **more: Any) -> RunRecord:
    weights = "scratch" if method == "scratch" else f"runs/{method}-{seed}"
    config = {"method": method, "mode": mode, "weights": weights, "task": more.pop("task", "segmentation")}
    config |= more.pop("settings", {})
    store = more.pop("store", {"name": "hearts", "hash": "ab"})
    fields = {"status": "finished", **more}
    return RunRecord("transfer", f"{method}-{seed}", seed, config, store, **fields)


def table1(records: list[RunRecord], order: Sequence[str]) -> Table:
    return ReportData(runs_of(records)).table1.in_order(order)


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
        assert cell.interval is not None
        assert cell.interval[0] < cell.mean < cell.interval[1]
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


def test_fewer_than_five_cases_have_no_interval_in_any_format() -> None:
    four = table1([record("scratch", 0, cases=rows([0.2, 0.5, 0.6, 0.9]))], ORDER)
    assert four.cells["scratch", LINEAR].interval is None
    assert "| scratch | **55.0**, n 4 x 1 |" in as_markdown(four)
    assert "no interval: 4 cases, fewer than 5" in as_markdown(four)
    assert r"scratch & \textbf{55.0} \\" in as_latex(four)
    (row,) = csv.DictReader(io.StringIO(as_csv(four)))
    assert (row["mean"], row["low"], row["high"]) == ("55", "", "")


def test_an_auc_of_few_cases_has_neither_interval_nor_p_value() -> None:
    cases = [{"id": str(n), "target": n % 2, "score": 0.1 * n} for n in range(4)]
    table = table1([record(method, 0, task="ccc", cases=cases) for method in ("scratch", "gvsl")], ORDER)
    assert [(cell.interval, cell.p_value) for cell in table.cells.values()] == [(None, None)] * 2


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
        assert cell.interval is not None
        assert cell.interval[0] <= cell.mean <= cell.interval[1]
    p_value = table.cells["scratch", key].p_value
    assert p_value is not None
    assert p_value < 0.05


def test_different_numbers_of_labels_have_columns_of_their_own(records: list[RunRecord]) -> None:
    few = [record(method, 0, cases=rows([0.25] * 20)) for method in ORDER]
    for made in few:
        made.config["labels"] = 5
    for made in records:
        made.config |= {"labels": None, "train_cases": [f"t{number}" for number in range(20)]}
    table = table1([*few, *records], ORDER)
    assert table.columns == [LINEAR._replace(labels=5), LINEAR._replace(labels=20)]
    assert table.cells["gvsl", table.columns[0]].mean == pytest.approx(25)
    assert table.cells["gvsl", table.columns[1]] == table1(records, ORDER).cells["gvsl", LINEAR]
    assert "hearts, linear, 5 labels, DSC %" in as_markdown(table)
    assert {line["labels"] for line in csv.DictReader(io.StringIO(as_csv(table)))} == {"5", "20"}


def test_all_of_two_cases_are_two_labels(records: list[RunRecord]) -> None:
    for made in records:
        made.config |= {"labels": 2 if made.seed else None, "train_cases": ["a", "b"]}
    table = table1(records, ORDER)
    assert table.columns == [LINEAR]
    assert {cell.seeds for cell in table.cells.values()} == {(0, 1)}


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


def test_runs_of_different_settings_have_columns_of_their_own() -> None:
    made = [
        record(method, 0, cases=rows([value] * 6), settings={"max_steps": steps, "clusters": {"points": steps}})
        for steps, values in ((40, {"scratch": 0.2, "gvsl": 0.5}), (60, {"scratch": 0.3, "gvsl": 0.4, "byol": 0.6}))
        for method, value in values.items()
    ]
    table = table1(made, ORDER)
    short, long = (LINEAR._replace(settings=f"max_steps {steps}") for steps in (40, 60))
    assert table.columns == [short, long]
    assert table.cells["gvsl", short].to_scratch == pytest.approx(30)
    assert table.cells["gvsl", long].to_scratch == pytest.approx(10)
    assert ("byol", short) not in table.cells
    assert {cell.seeds for cell in table.cells.values()} == {(0,)}
    assert "hearts, linear, max_steps 40, DSC %" in as_markdown(table)


def test_features_of_more_pre_training_have_a_row_of_their_own_beside_scratch() -> None:
    made = [
        record("gvsl", 0, cases=rows([steps / 100] * 6), pretraining={"steps": steps, "seed": 0, "store": "cd"})
        for steps in (40, 60)
    ]
    for number, each in enumerate(made):
        each.config["weights"] = f"runs/{number}"
    table = table1([record("scratch", 0, cases=rows([0.1] * 6)), *made], ORDER)
    assert (table.methods, table.columns) == (["scratch", "gvsl (40 steps)", "gvsl (60 steps)"], [LINEAR])
    assert [table.cells[name, LINEAR].to_scratch for name in table.methods[1:]] == pytest.approx([30, 50])


def test_two_arms_never_share_a_row() -> None:
    random, trained = (record("scratch", 0, cases=rows([value] * 6)) for value in (0.2, 0.6))
    trained.config["weights"] = "runs/trained"  # as written before such weights were called supervised
    table = table1([random, trained], ORDER)
    assert sorted(cell.mean for cell in table.cells.values()) == pytest.approx([20, 60])


def test_stores_of_one_name_are_distinguished_by_their_hash() -> None:
    made = [
        record("gvsl", 0, cases=rows([value] * 6), store={"name": "hearts", "hash": mark})
        for mark, value in (("aaaaaaaa", 0.2), ("bbbbbbbb", 0.6))
    ]
    table = table1(made, ORDER)
    assert {key.store: table.cells["gvsl", key].mean for key in table.columns} == pytest.approx(
        {"hearts (aaaaaa)": 20, "hearts (bbbbbb)": 60}
    )


def test_a_setting_that_older_records_lack_is_what_it_stood_at() -> None:
    old, new = record("scratch", 0, cases=rows([0.2] * 6)), record("gvsl", 0, cases=rows([0.3] * 6))
    new.config["patience"] = None
    assert table1([old, new], ORDER).columns == [LINEAR]


def test_several_runs_of_one_seed_count_as_their_mean_with_a_note() -> None:
    made = [record("gvsl", seed, cases=rows([value] * 6)) for seed, value in ((0, 0.2), (0, 0.4), (1, 0.6))]
    scratch = [record("scratch", seed, cases=rows([value] * 6)) for seed, value in ((0, 0.1), (1, 0.1))]
    table = table1([*made, *scratch], ORDER)
    cell = table.cells["gvsl", LINEAR]
    assert (cell.mean, cell.to_scratch) == pytest.approx((45, 35))
    assert (cell.seeds, cell.repeated) == ((0, 1), (0,))
    assert "n 6 x 2" in as_markdown(table)
    assert "gvsl, hearts, linear: several runs of seed 0, which count as their mean." in as_markdown(table)


def test_scores_are_paired_by_case_and_not_by_place() -> None:
    values = [0.1, 0.2, 0.3, 0.5, 0.7, 0.9]
    others = [row | {"dice": float(row["dice"]) + 0.01 * (n + 1)} for n, row in enumerate(rows(values)[::-1])]
    table = table1([record("gvsl", 0, cases=rows(values)), record("byol", 0, cases=others)], ORDER)
    gaps = [0.01 * (n + 1) for n in range(6)]
    assert table.cells["byol", LINEAR].p_value == pytest.approx(wilcoxon(gaps).pvalue)


def test_cases_that_not_every_run_has_are_left_out_with_a_note() -> None:
    made = [record("gvsl", 0, cases=rows([0.2, 0.4, 0.9])), record("gvsl", 1, cases=rows([0.4, 0.6]))]
    table = table1([*made, record("byol", 0, cases=[{"id": "other", "dice": 0.5}])], ORDER)
    cell = table.cells["gvsl", LINEAR]
    assert cell.mean == pytest.approx(40)
    assert (cell.cases, cell.left_out) == (2, 1)
    assert table.cells["byol", LINEAR].p_value is None  # there is no case to pair by
    assert "1 case left out, not scored in every run" in as_markdown(table)
    assert "1 case left out" in as_latex(table)
    with pytest.raises(UserError, match="no test case in common"):
        table1([*made, record("gvsl", 2, cases=[{"id": "other", "dice": 0.5}])], ORDER)


@pytest.mark.filterwarnings("error")
def test_an_auc_of_one_class_is_missing() -> None:
    cases = [{"id": str(n), "target": 0, "score": n / 6} for n in range(6)]
    table = table1([record(method, 0, task="ccc", cases=cases) for method in ("scratch", "gvsl")], ORDER)
    (key,) = table.columns
    cell = table.cells["scratch", key]
    assert (cell.to_scratch, cell.p_value, table.best(key)) == (None, None, None)
    assert "| scratch | n/a, n 6 x 1 |" in as_markdown(table)
    assert "no AUC, since all test cases are of one class" in as_markdown(table)
    assert {line["mean"] for line in csv.DictReader(io.StringIO(as_csv(table)))} == {"n/a"}
    assert "n/a" in as_latex(table)


def test_markdown_says_what_its_signs_mean_and_which_seeds(records: list[RunRecord]) -> None:
    text = as_markdown(table1(records, ORDER))
    for words in ("square brackets its 95 % interval", "Bold: the best", "Star: differs from gvsl", "in the CSV"):
        assert words in text
    assert "- hearts, linear: n = 20 cases, seeds 0, 1\n" in text
    fewer = [made for made in records if made.name != "byol-1"]
    assert "seeds 0, 1 (scratch, gvsl, simclr); n = 20 cases, seed 0 (byol)" in as_markdown(table1(fewer, ORDER))


def test_a_name_with_a_bar_stays_in_its_cell() -> None:
    made = record("gvsl", 0, cases=rows([0.5, 0.6]), store={"name": "a|b\nc", "hash": "ab"})
    head, rule, row = as_markdown(table1([made], ORDER)).splitlines()[:3]
    assert r"a\|b c, linear" in head
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in (head, rule, row)] == [3, 3, 3]


def test_what_latex_would_take_for_its_own_is_escaped() -> None:
    made = record("[a_b&{c}\\d%", 0, cases=rows([0.5, 0.6]), store={"name": 'x|<y>~^#$"', "hash": "ab"})
    text = as_latex(table1([made], ORDER))
    assert r"{[}a\_b\&\{c\}\textbackslash{}d\%" in text
    assert r"x\textbar{}\textless{}y\textgreater{}\textasciitilde{}\textasciicircum{}\#\$\textquotedbl{}" in text


def test_latex_has_intervals_stars_seeds_and_whole_rows(records: list[RunRecord]) -> None:
    table = table1(records, ORDER)
    text = as_latex(table)
    cell = table.cells["scratch", LINEAR]
    assert cell.differs
    assert cell.interval is not None
    low, high = cell.interval
    assert rf"scratch & {cell.mean:.1f} {{\scriptsize [{low:.1f}, {high:.1f}]}}$^{{*}}$ \\" in text
    best = table.best(LINEAR)
    assert best is not None
    assert rf"\textbf{{{table.cells[best, LINEAR].mean:.1f}}}" in text
    assert "hearts, linear: n = 20 cases, seeds 0, 1." in text
    body = text.partition(r"\toprule")[2].partition(r"\bottomrule")[0]
    assert {line.count("&") for line in body.splitlines() if line.endswith(r"\\")} == {len(table.columns)}
    bare = re.sub(r"\\[\\{}%&$#_]", "", text.partition("\n")[2])
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert "%" not in bare
    assert [text.count(f"\\{word}{{table}}") for word in ("begin", "end")] == [1, 1]


def test_the_csv_has_the_number_of_labels_that_titles_leave_out() -> None:
    cases = rows([0.2, 0.5, 0.6, 0.8, 0.9])
    drawn = table1([record("gvsl", 0, cases=cases, settings={"labels": 5})], ORDER)
    assert [key.title for key in drawn.columns] == ["hearts, linear"]
    assert [line["labels"] for line in csv.DictReader(io.StringIO(as_csv(drawn)))] == ["5"]
    unknown = table1([record("gvsl", 0, cases=cases)], ORDER)
    assert [line["labels"] for line in csv.DictReader(io.StringIO(as_csv(unknown)))] == ["all"]
