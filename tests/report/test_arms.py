"""Which pre-training made a run's features."""

from pathlib import Path
from typing import Any

import pytest

from gvsl.records import RunRecord
from gvsl.records.comparability import differences
from gvsl.report.grouping import RANDOM, arm_of, groups, members, pretraining_of
from gvsl.report.run_findings import findings
from gvsl.report.runs import Run

from .probes import MINE, OTHER, probe


def made(folder: str, steps: int = 600, store: str = "hearts", **pretext: Any) -> Run:
    """A pre-training run of GVSL."""
    config = {"method": "gvsl", "seed": 0, "trainer": {"max_steps": steps}, "pretext": pretext}
    record = RunRecord("pretrain", Path(folder).name, 0, config, {"name": store, "hash": "1"}, status="finished")
    return Run(Path(folder), record.name, store, record, {}, [], [])


def arms(runs: list[Run], pretrained: list[Run]) -> list[str]:
    """The arms of transfer runs."""
    return [member.arm for member in members([*runs, *pretrained])][: len(runs)]


@pytest.mark.parametrize("weights", ["runs/b", "b", "/else/runs/b/weights", "b/weights/model.safetensors"])
def test_weights_lead_to_the_run_that_made_them(weights: str) -> None:
    known = [made("x/runs/a"), made("x/runs/b")]
    assert pretraining_of(probe(0, {"a": 1}, weights), known) is known[1]


def test_what_could_be_of_several_runs_is_of_none() -> None:
    known = [made("x/one/b"), made("x/two/b")]
    assert pretraining_of(probe(0, {"a": 1}, "b"), known) is None
    assert pretraining_of(probe(0, {"a": 1}, "two/b"), known) is known[1]
    assert pretraining_of(probe(0, {"a": 1}, "elsewhere"), known) is None
    assert pretraining_of(probe(0, {"a": 1}, "two/b", config={"method": "byol"}), known) is None


def test_one_method_has_an_arm_for_each_way_it_was_pre_trained() -> None:
    known = [made(f"a{seed}") for seed in range(3)] + [made("long", 2400), made("paper", fusion="paper")]
    known += [made("new", fusion="compose"), made("away", store="heads")]
    runs = [probe(0, {"a": 1}, run.folder.name) for run in known]
    variants = ["gvsl (2400 steps)", "gvsl (fusion paper)", "gvsl (fusion compose)", "gvsl (store heads)"]
    assert arms([*runs, OTHER[0]], known) == ["gvsl", "gvsl", "gvsl", *variants, RANDOM]
    assert arms([runs[0], probe(1, {"a": 1}, "lost")], known) == [
        "gvsl",
        "gvsl (pre-training not among the runs)",
    ]


def student(seed: int, matcher: str = "m", weights: str = "scratch", **config: Any) -> Run:
    """A student of the labels that a network of GVSL carried, whose own labelled case its seed draws."""
    config = {"carry": "gvsl", "carry_steps": 800, "train_cases": [f"t{seed}"], **config}
    return probe(seed, {"a": 0.5, "b": 0.6}, weights, config=config | {"mode": "finetune", "carry_run": matcher})


def grouped(runs: list[Run]) -> list[tuple[str, dict[str, list[Run]]]]:
    """The settings of each group, and its runs by arm."""
    return sorted(((group.settings, group.arms) for group in groups(runs)), key=lambda each: each[0])


def test_students_of_a_network_that_saw_labels_are_not_averaged_with_others() -> None:
    blind, saw = student(0), student(0, "other", carry_labels=["x", "y"])
    assert grouped([blind, saw]) == [
        ("carry_labels none", {RANDOM: [blind]}),
        ("carry_labels x, y", {RANDOM: [saw]}),
    ]
    assert [change.name for change in differences(blind.record, saw.record)] == ["carry_labels"]
    older, none = student(1), student(0, carry_labels=[])  # a record from before it was recorded: there were none
    assert [settings for settings, _ in grouped([older, none])] == [""]


def test_draws_whose_networks_saw_their_own_labels_are_one_arm() -> None:
    runs = [student(seed, f"m{seed}", carry_labels=[f"t{seed}"]) for seed in range(3)]
    assert grouped(runs) == [("", {RANDOM: runs})]


def test_students_are_told_apart_by_the_settings_of_what_carried() -> None:
    known = [made(folder, 800, affine_head="keypoints") for folder in ("m0", "m1")]
    known += [made("pooled", 800, affine_head="pooled"), made("away", 800, "heads", affine_head="keypoints")]
    runs = [student(seed, f"m{seed}") for seed in range(2)]
    other, away = student(0, "pooled", "w"), student(0, "away")
    found = grouped([*runs, other, away, *known])
    assert [settings for settings, _ in found] == [
        "carry gvsl",
        "carry gvsl (affine_head pooled)",
        "carry gvsl (store heads)",
    ]
    assert [arms for _, arms in found] == [{RANDOM: runs}, {"gvsl": [other]}, {RANDOM: [away]}]


def test_what_no_record_tells_apart_is_told_by_a_finding() -> None:
    (group,) = groups([student(0, "m"), student(0, "n"), student(0, "m", "w"), student(1, "n", "w")])
    texts = [finding.text for finding in findings([], [group])]
    assert f"{RANDOM}: several networks that carried labels of one seed, whose mean is taken" in texts
    assert not any(text.startswith("gvsl: several") for text in texts)


def test_weights_that_saw_labels_are_an_arm_of_their_own() -> None:
    facts = {"steps": 600, "seed": 0}
    runs = [probe(seed, {"a": 1}, f"w{seed}", pretraining=facts) for seed in range(2)]
    runs.append(probe(0, {"a": 1}, "s", pretraining=facts | {"labels": ["x", "y"]}))
    runs.append(probe(1, {"a": 1}, "t", pretraining=facts | {"labels": "not known"}))
    assert arms(runs, []) == ["gvsl", "gvsl", "gvsl (labels seen x, y)", "gvsl (labels seen not known)"]


def test_without_the_records_of_pre_training_a_method_is_one_arm() -> None:
    assert arms([*MINE, *OTHER], []) == ["gvsl", "gvsl", RANDOM, RANDOM]
    assert arm_of(probe(0, {"a": 0.1}, "scratch", config={"mode": "scratch"})) == RANDOM
