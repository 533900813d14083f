"""The figures of the summary, each against its plain recomputation."""

from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest

from gvsl.report.runs import Curve, Run, read_runs
from gvsl.report.summary import (
    RANDOM,
    case_ids,
    curve_end,
    difference,
    differing_settings,
    flat_settings,
    groups,
    headline,
    held_out,
    protocol,
    scores,
    side,
    spread,
    standing,
    structures,
    verdict,
)
from gvsl.results import RunRecord

Maker = Callable[..., Path]


def probe(seed: int, dice: dict[str, float], weights: str = "w", **changes: Any) -> Run:
    """A finished transfer run with the DSC of each case."""
    config = {"mode": "linear", "weights": weights, "method": "scratch" if weights == "scratch" else "gvsl"}
    record: dict[str, Any] = {
        "kind": "transfer",
        "name": "probe",
        "seed": seed,
        "config": config | changes.pop("config", {}),
        "store": {"name": "hearts", "hash": "1"},
        "status": "finished",
        "cases": [{"id": case, "dice": value} for case, value in dice.items()],
    }
    full = RunRecord(**(record | changes))
    return Run(Path("run"), f"probe {seed} {weights}", full.store["name"], full, {}, [], [])


MINE = [probe(0, {"a": 0.7, "b": 0.5, "c": 0.6}), probe(1, {"a": 0.8, "b": 0.5, "c": 0.4})]
OTHER = [
    probe(0, {"a": 0.5, "b": 0.6, "c": 0.4}, "scratch"),
    probe(1, {"a": 0.4, "b": 0.5, "c": 0.3}, "scratch"),
]


def test_spread_over_cases_and_seeds() -> None:
    found = spread(scores(MINE, ["a", "b", "c"], "dice"))
    by_case, by_seed = [0.75, 0.5, 0.5], [0.6, 1.7 / 3]
    assert found.mean == pytest.approx(fmean(by_case))
    assert found.over_cases == pytest.approx(stdev(by_case))
    assert found.over_seeds == pytest.approx(stdev(by_seed))
    assert (found.cases, found.runs) == (3, 2)


def test_one_value_has_no_spread() -> None:
    found = spread(scores([probe(0, {"a": 0.7})], ["a"], "dice"))
    assert (found.mean, found.over_cases, found.over_seeds) == (0.7, None, None)


def test_difference_is_paired_by_case_and_by_seed() -> None:
    found = difference(MINE, OTHER, ["a", "b", "c"], "dice")
    by_case = [0.75 - 0.45, 0.5 - 0.55, 0.5 - 0.35]
    by_seed = [0.6 - 0.5, 1.7 / 3 - 0.4]
    assert found.mean == pytest.approx(fmean(by_case))
    assert found.over_cases == pytest.approx(stdev(by_case))
    assert found.over_seeds == pytest.approx(stdev(by_seed))
    assert (found.cases_ahead, found.cases, found.seeds_ahead, found.seeds) == (2, 3, 2, 2)
    assert standing(found) == "pre-training is ahead in 2 of 3 cases and in 2 of 2 seeds"
    assert standing(difference(OTHER, MINE, ["a", "b", "c"], "dice")) == "pre-training is not ahead"


def test_a_case_without_a_figure_counts_for_nothing() -> None:
    runs = [probe(0, {"a": 0.7}), probe(1, {"a": 0.5, "b": 0.2})]
    runs[1].record.cases.append({"id": "c", "dice": None})
    found = spread(scores(runs, ["a", "b", "c"], "dice"))
    assert found.mean == pytest.approx(fmean([0.6, 0.2]))
    assert found.cases == 2


def test_only_cases_of_every_run_are_compared() -> None:
    assert case_ids([*MINE, probe(2, {"c": 0.1, "a": 0.2, "z": 0.3})]) == ["a", "c"]


def test_random_features_and_the_protocol_are_recognised() -> None:
    assert [side(MINE[0]), side(OTHER[0])] == ["gvsl", RANDOM]
    whole = probe(0, {"a": 0.1}, "scratch", config={"mode": "scratch"})
    assert (side(whole), protocol(whole)) == (RANDOM, "finetune")
    assert (side(OTHER[0]), protocol(OTHER[0])) == (RANDOM, "linear")
    assert protocol(probe(0, {"a": 0.1}, config={"mode": "finetune"})) == "finetune"


def test_training_from_scratch_is_set_against_fine_tuning_alone() -> None:
    """A linear probe on random features and a network trained whole from random weights are two baselines."""
    tuned = probe(0, {"a": 0.3}, config={"mode": "finetune"})
    whole = probe(0, {"a": 0.9}, "scratch", config={"mode": "scratch"})
    fine, linear = groups([tuned, whole, *MINE, *OTHER])
    assert [run.record.config["mode"] for run in fine.runs] == ["scratch", "finetune"]
    assert {run.record.config["mode"] for run in linear.runs} == {"linear"}
    assert headline([], [fine]) == "Fine-tuned from gvsl weights: DSC 0.300, against 0.900 from scratch"
    assert headline([], [fine, linear], [3.0, 0.0]) == "Pre-training is ahead of a random start in 2 of 4 comparisons"


def test_groups_hold_what_can_be_compared() -> None:
    elsewhere = probe(0, {"a": 0.1}, store={"name": "heads", "hash": "2"})
    tuned = probe(0, {"a": 0.1}, config={"mode": "finetune"})
    failed = probe(2, {"a": 0.9}, status="failed")
    found = groups([failed, *MINE, tuned, elsewhere, *OTHER])
    assert [(group.store, group.protocol, list(group.sides)) for group in found] == [
        ("heads", "linear", ["gvsl"]),
        ("hearts", "finetune", ["gvsl"]),
        ("hearts", "linear", [RANDOM, "gvsl"]),
    ]
    assert [run.record.seed for run in found[2].sides["gvsl"]] == [0, 1]


def test_a_setting_that_both_sides_vary_splits_the_group() -> None:
    runs = [
        probe(0, {"a": value}, weights, config={"data": {"labelled": count}})
        for count, value in ((5, 0.1), (20, 0.3))
        for weights in ("w", "scratch")
    ]
    found = groups(runs)
    assert [group.settings for group in found] == ["data.labelled 20", "data.labelled 5"]
    assert all(list(group.sides) == [RANDOM, "gvsl"] for group in found)


def test_a_setting_that_one_side_alone_varies_is_named() -> None:
    runs = [
        probe(0, {"a": 0.1}, config={"max_steps": 5}),
        probe(0, {"a": 0.1}, "scratch", config={"max_steps": 9}),
    ]
    (group,) = groups(runs)
    assert differing_settings(group.runs) == {"max_steps": ["5", "9"]}
    assert differing_settings([*MINE, *OTHER]) == {}


def test_what_follows_from_weights_and_seed_or_decides_no_score_is_no_difference() -> None:
    given = [
        {"weights_keys": "130 matched", "train_cases": ["a"], "clusters": {"points": 9}},
        {"weights_keys": None, "train_cases": ["b"]},
    ]
    runs = [
        probe(seed, {"a": 0.5}, weights, config=config)
        for seed, (weights, config) in enumerate(zip(("w", "scratch"), given, strict=True))
    ]
    assert differing_settings(runs) == {}


def test_nested_settings_are_flattened() -> None:
    assert flat_settings({"a": {"b": 1, "c": {}}, "d": [2]}) == {"a.b": 1, "a.c": {}, "d": [2]}


def test_structures_come_in_the_order_of_their_labels() -> None:
    run = probe(0, {"a": 0.5}, labels={"2": "wall", "1": "cavity", "3": "unseen"})
    run.record.cases[0] |= {"dice/cavity": 0.1, "dice/wall": 0.2, "dice/aorta": 0.3}
    assert structures([run]) == ["wall", "cavity", "aorta"]


def test_curve_end_is_the_mean_of_the_last_tenth() -> None:
    values = np.arange(40.0)
    assert curve_end(Curve(values, values)) == pytest.approx(fmean([36, 37, 38, 39]))
    assert curve_end(Curve(values[:3], values[:3])) == 2


def test_held_out_takes_the_recorded_mean_or_makes_it() -> None:
    record = RunRecord("pretrain", "p", 0, {}, {}, metrics={"val/ncc": 0.3}, cases=[{"id": "a", "folded": 0.1}])
    run = Run(Path("p"), "p", "hearts", record, {}, [], [])
    assert (held_out(run, "ncc"), held_out(run, "folded"), held_out(run, "dice_after")) == (0.3, 0.1, None)


def test_verdict_and_headline_state_both_means_and_the_difference() -> None:
    (group,) = groups([*MINE, *OTHER])
    said = verdict(group, "gvsl")
    for part in ("DSC 0.583", "random features: 0.450", "+0.133", "3 cases", "2 seeds", "2 of 3 cases"):
        assert part in said, part
    assert headline([*MINE, *OTHER], [group]) == "Linear on gvsl features: DSC 0.583, against 0.450 from random ones"
    (alone,) = groups(MINE)
    assert "no run on random features" in verdict(alone, "gvsl")
    assert headline(MINE, [alone]) == "Nothing to compare yet"


def test_a_study_on_disk_is_recomputed_plainly(study: list[Path]) -> None:
    runs = read_runs(study)
    (group,) = groups(runs)
    for name, pretrained in (("gvsl", True), (RANDOM, False)):
        members = [
            run
            for run in runs
            if run.record.kind == "transfer" and (run.record.config["weights"] != "scratch") is pretrained
        ]
        plain = fmean(row["dice/anterior"] for run in members for row in run.record.cases)
        found = spread(scores(group.sides[name], case_ids(group.runs), "dice/anterior"))
        assert found.mean == pytest.approx(plain)
        assert found.runs == 3
