"""Resuming, the benchmark, Table 1, the summary, the charts and the results page agree on what decides a result."""

import copy
import importlib.util
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from gvsl.benchmark.matrix import Column
from gvsl.benchmark.matrix import Run as PlannedRun
from gvsl.methods import GVSLSettings
from gvsl.records import RunRecord
from gvsl.records.comparability import changes, differences
from gvsl.report.data import ReportData
from gvsl.report.grouping import chart_groups
from gvsl.report.runs import Run, read_runs
from gvsl.settings import NO_RESULT, deciding_settings, effect_of, effects_of
from gvsl.settings.pretrain import PretrainSettings
from gvsl.transfer import TransferSettings

DOCS = Path(__file__).parents[2] / "docs"
COLUMN = Column("segmentation", Path("hearts"), "1")
TRANSFER = TransferSettings(mode="finetune")
PRETRAIN = PretrainSettings(pretext=GVSLSettings())


def leaves(settings: Any, prefix: str = "") -> Iterator[str]:
    """The dotted name of each single setting."""
    for item in fields(settings):
        value = getattr(settings, item.name)
        if is_dataclass(value):
            yield from leaves(value, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name


def changed(settings: Any, name: str) -> Any:
    """The settings with one of another value, which need not be a sensible one."""
    first, _, rest = name.partition(".")
    other, value = copy.copy(settings), getattr(settings, first)
    kind = get_type_hints(type(settings))[first]
    if rest:
        value = changed(value, rest)
    elif get_origin(kind) is Literal:
        value = next(choice for choice in get_args(kind) if choice not in (value, "linear"))
    elif isinstance(value, bool):
        value = not value
    elif isinstance(value, int | float):
        value = value + 1
    else:
        value = (16, 16, 16) if "crop" in first else "other" if isinstance(value, str) else 7
    object.__setattr__(other, first, value)
    return other


def transfer(settings: TransferSettings, weights: str, seed: int = 0) -> Run:
    """A finished transfer run."""
    method = "scratch" if weights == "scratch" else "gvsl"
    cases = ["a", "b"] if settings.labels is None else ["a"]
    config = asdict(settings) | {"method": method, "weights": weights, "train_cases": cases}
    store = {"name": COLUMN.store.name, "hash": COLUMN.store_hash}
    record = RunRecord("transfer", weights, seed, config, store, status="finished", effects=effects_of(settings))
    record.cases.extend({"id": str(number), "dice": number / 10} for number in range(6))
    return Run(Path(weights), weights, "hearts", record, {}, [], [])


def pretrained(settings: PretrainSettings, folder: str) -> Run:
    """A finished pre-training run."""
    config = {"method": "gvsl", **asdict(settings)}
    store = {"name": "hearts", "hash": "1"}
    record = RunRecord("pretrain", folder, settings.seed, config, store, status="finished")
    record.effects = effects_of(settings)
    return Run(Path(folder), folder, "hearts", record, {}, [], [])


def resumes(earlier: dict[str, Any], now: dict[str, Any], effects: dict[str, str]) -> bool:
    return not changes(earlier, now, effects)


def key(settings: PretrainSettings | TransferSettings) -> str:
    return PlannedRun(COLUMN, "gvsl", settings.seed, settings).key


@pytest.mark.parametrize("name", list(leaves(TRANSFER)))
def test_a_setting_of_transfer_separates_runs_everywhere_or_nowhere(name: str) -> None:
    other = changed(TRANSFER, name)
    effect = effect_of(name, effects_of(TRANSFER))
    if name.startswith("carrying."):  # no labels are carried in these runs
        effect = "nothing"
    assert resumes(deciding_settings(TRANSFER), deciding_settings(other), effects_of(other)) is (effect in NO_RESULT)
    assert (key(TRANSFER) == key(other)) is (effect in NO_RESULT)  # only linear runs write what extras decide
    runs = [transfer(other, "scratch"), transfer(TRANSFER, "w")]
    data = ReportData(runs)
    comparable = effect is not None
    assert (differences(runs[0].record, runs[1].record) == []) is comparable
    assert (len(data.table1.columns) == 1) is comparable
    assert [group.can_be_compared for group in data.compared] == ([True] if comparable else [False, False])
    charts, alone = chart_groups(runs)
    assert alone == []
    assert (charts[0].note == "") is comparable


@pytest.mark.parametrize("name", list(leaves(PRETRAIN)))
def test_a_setting_of_pre_training_separates_arms_everywhere_or_nowhere(name: str) -> None:
    other = changed(PRETRAIN, name)
    effect = effect_of(name, effects_of(PRETRAIN))
    if name == "pretext.labels_weight":  # no labels are seen in these runs
        effect = "nothing"
    assert resumes(asdict(PRETRAIN), asdict(other), effects_of(other)) is (effect in NO_RESULT)
    assert (key(PRETRAIN) == key(other)) is (effect == "nothing")
    made = [pretrained(PRETRAIN, "one"), pretrained(other, "two")]
    runs = [*made, transfer(TRANSFER, "scratch"), transfer(TRANSFER, "one"), transfer(TRANSFER, "two", seed=1)]
    alike = effect is not None
    assert (differences(made[0].record, made[1].record) == []) is alike
    data = ReportData(runs)
    assert (len(data.table1.methods) == 2) is alike
    assert (len(data.compared[0].methods) == 1) is alike
    (chart,), _ = chart_groups(runs, lambda run: run.record.kind == "transfer")
    assert (len(chart.arms) == 2) is alike
    charts, _ = chart_groups(runs, lambda run: run.record.kind == "pretrain", min_arms=1)
    assert (len(charts) == 1) is alike


def test_all_of_two_cases_are_two_labels_everywhere() -> None:
    drawn = transfer(changed(TRANSFER, "labels"), "w")
    drawn.record.config.update(labels=2, train_cases=["a", "c"])
    runs = [transfer(TRANSFER, "scratch"), drawn]
    data = ReportData(runs)
    assert len(data.table1.columns) == 1
    assert [(group.labels, group.can_be_compared) for group in data.compared] == [(2, True)]
    assert [group.note for group in chart_groups(runs)[0]] == [""]


def test_segmentation_and_classification_of_one_store_are_separate_everywhere() -> None:
    runs = [transfer(TRANSFER, "scratch"), transfer(TRANSFER, "w")]
    for row in runs[1].record.cases:
        row |= {"score": row.pop("dice"), "target": int(row["id"]) % 2}
    data = ReportData(runs)
    assert {key.metric for key in data.table1.columns} == {"DSC", "AUC"}
    assert [group.can_be_compared for group in data.groups] == [False, False]
    charts, alone = chart_groups(runs)
    assert (charts, {run.label for run in alone}) == ([], {"scratch", "w"})


def test_the_results_page_reads_the_same_groups() -> None:
    spec = importlib.util.spec_from_file_location("results_table", DOCS / "results_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    group = ReportData([transfer(TRANSFER, "scratch"), transfer(TRANSFER, "w")]).compared[0]
    for run in group.runs:
        run.record.metrics["val/dice"] = 0.5
    head, _, *rows = module.methods_table(group, speed=False)
    assert "hearts, 2 labels" in head
    assert [row.partition(" |")[0] for row in rows] == ["| `scratch`", "| `gvsl`"]


def test_readers_agree_on_the_repositorys_records() -> None:
    data = ReportData(read_runs([DOCS / "records"]))
    runs_of = {
        (key.store, key.mode, key.metric, key.settings, key.labels, "random" if row == "scratch" else row): set(
            map(id, cell.runs)
        )
        for (row, key), cell in data.table1.cells.items()
    }
    assert runs_of == {
        (*key, group.settings, group.labels if group.labels_vary else None, arm): set(map(id, runs))
        for group in data.groups
        for key in [(group.store, group.protocol, group.metric)]
        for arm, runs in group.arms.items()
    }
    for group in data.groups:
        assert all(not differences(group.runs[0].record, run.record) for run in group.runs)
    charts, alone = chart_groups(data.runs, lambda run: run.record.kind == "transfer", min_arms=1)
    assert alone == []
    charted = [set(map(id, runs)) for chart in charts for runs in chart.arms.values()]
    assert sorted(map(sorted, charted)) == sorted(map(sorted, runs_of.values()))
