"""Which pre-training made a run's features."""

from pathlib import Path
from typing import Any

import pytest

from gvsl.records import RunRecord
from gvsl.report.grouping import RANDOM, arm_of, members, pretraining_of
from gvsl.report.runs import Run

from .probes import MINE, OTHER, probe


def made(folder: str, steps: int = 600, store: str = "hearts", **pretext: Any) -> Run:
    """A pre-training run of GVSL."""
    config = {"method": "gvsl", "seed": 0, "trainer": {"max_steps": steps}, "pretext": pretext}
    record = RunRecord("pretrain", Path(folder).name, 0, config, {"name": store, "hash": "1"}, status="finished")
    return Run(Path(folder), record.name, store, record, {}, [], [])


def arms(runs: list[Run], pretrained: list[Run]) -> list[str]:
    """The arms of transfer runs."""
    return [arm for _, arm in members([*runs, *pretrained])][: len(runs)]


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


def test_without_the_records_of_pre_training_a_method_is_one_arm() -> None:
    assert arms([*MINE, *OTHER], []) == ["gvsl", "gvsl", RANDOM, RANDOM]
    assert arm_of(probe(0, {"a": 0.1}, "scratch", config={"mode": "scratch"})) == RANDOM
