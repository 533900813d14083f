"""Groups of runs that share a chart."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gvsl.report.grouping import chart_groups
from gvsl.report.runs import read_runs

Maker = Callable[..., Path]


def config(method: str = "gvsl", mode: str = "linear", **more: Any) -> dict[str, Any]:
    weights = "scratch" if method == "scratch" else "somewhere"
    return {"method": method, "mode": mode, "weights": weights, "max_steps": 9, **more}


def test_scratch_belongs_to_fine_tuning_and_to_linear_by_its_mode(tmp_path: Path, transfer_folder: Maker) -> None:
    for name, given in (
        ("a", config("byol", "finetune")),
        ("b", config("gvsl", "finetune")),
        ("c", config("scratch", "scratch")),
        ("d", config("scratch", "linear")),
        ("e", config("gvsl", "linear")),
    ):
        transfer_folder(tmp_path / name, 0, True, name=name, config=given)
    found, alone = chart_groups(read_runs([tmp_path]))
    assert {group.protocol: list(group.arms) for group in found} == {
        "finetune": ["scratch", "gvsl", "byol"],
        "linear": ["scratch", "gvsl"],
    }
    assert [group.title for group in found] == ["hippocampus: fine-tuning", "hippocampus: linear evaluation"]
    assert not alone


def test_settings_separate_groups_and_a_run_with_no_other_is_named(tmp_path: Path, transfer_folder: Maker) -> None:
    for labels in (5, 10):
        for method in ("gvsl", "scratch"):
            cases = [f"{method}{number}" for number in range(labels)]
            given = config(method, labels=labels, device=method, train_cases=cases, clusters={"points": labels})
            transfer_folder(tmp_path / f"{method}{labels}", 0, True, name=f"{method}{labels}", config=given)
    transfer_folder(tmp_path / "lone", 0, True, name="lone", config=config(labels=20))
    found, alone = chart_groups(read_runs([tmp_path]))
    assert [group.title for group in found] == [
        "hippocampus: linear evaluation, labels 10",
        "hippocampus: linear evaluation, labels 5",
    ]
    assert [run.label for run in alone] == ["lone"]


def test_what_can_only_be_shown_together_is_and_says_what_differs(tmp_path: Path, transfer_folder: Maker) -> None:
    for method, steps in (("gvsl", 9), ("scratch", 8)):
        given = config(method) | {"max_steps": steps}
        transfer_folder(tmp_path / method, 0, True, name=method, config=given)
    (group,), _ = chart_groups(read_runs([tmp_path]))
    assert list(group.arms) == ["scratch", "gvsl"]
    assert group.note == "These runs differ in more than their weights: max_steps."
