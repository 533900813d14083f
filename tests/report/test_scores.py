"""Scores over cases and seeds, each against its plain recomputation."""

from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest

from gvsl.report.grouping import RANDOM, groups
from gvsl.report.runs import read_runs
from gvsl.report.scores import case_ids, difference, scores, spread, structures
from gvsl.report.verdicts import outcome

from .probes import MINE, OTHER, probe


def test_spread_over_cases_and_seeds() -> None:
    found = spread(scores(MINE, ["a", "b", "c"], "dice"))
    by_case, by_seed = [0.75, 0.5, 0.5], [0.6, 1.7 / 3]
    assert found.mean == pytest.approx(fmean(by_case))
    assert found.over_cases == pytest.approx(stdev(by_case))
    assert found.over_seeds == pytest.approx(stdev(by_seed))
    assert (found.cases, found.seeds) == (3, 2)


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
    assert outcome(found) == "pre-training is ahead in 2 of 3 cases and in 2 of 2 seeds"
    assert outcome(difference(OTHER, MINE, ["a", "b", "c"], "dice")) == "pre-training is not ahead (in 1 of 3 cases)"


def test_only_seeds_of_both_arms_count() -> None:
    more = [*OTHER, probe(2, {"a": 0.0, "b": 0.0, "c": 0.0}, "scratch"), probe(3, {"a": 1, "b": 1, "c": 1}, "scratch")]
    assert difference(MINE, more, ["a", "b", "c"], "dice") == difference(MINE, OTHER, ["a", "b", "c"], "dice")
    apart = difference(MINE, more[2:], ["a", "b", "c"], "dice")
    assert (np.isnan(apart.mean), apart.cases, apart.seeds) == (True, 0, 0)
    assert "not compared" in outcome(apart)


def test_two_runs_of_a_seed_are_one_seed() -> None:
    twice = [*MINE, probe(0, {"a": 0.5, "b": 0.5, "c": 0.2})]
    table = scores(twice, ["a", "b", "c"], "dice")
    np.testing.assert_allclose(table, [[0.6, 0.5, 0.4], [0.8, 0.5, 0.4]])
    assert spread(table).seeds == 2


def test_a_case_without_a_score_is_ignored() -> None:
    runs = [probe(0, {"a": 0.7}), probe(1, {"a": 0.5, "b": 0.2})]
    runs[1].record.cases.append({"id": "c", "dice": None})
    found = spread(scores(runs, ["a", "b", "c"], "dice"))
    assert found.mean == pytest.approx(fmean([0.6, 0.2]))
    assert found.cases == 2


def test_only_cases_of_every_run_are_compared() -> None:
    assert case_ids([*MINE, probe(2, {"c": 0.1, "a": 0.2, "z": 0.3})]) == ["a", "c"]


def test_structures_come_in_the_order_of_their_labels() -> None:
    run = probe(0, {"a": 0.5}, labels={"2": "wall", "1": "cavity", "3": "unseen"})
    run.record.cases[0] |= {"dice/cavity": 0.1, "dice/wall": 0.2, "dice/aorta": 0.3}
    assert structures([run]) == ["wall", "cavity", "aorta"]


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
        found = spread(scores(group.arms[name], case_ids(group.runs), "dice/anterior"))
        assert found.mean == pytest.approx(plain)
        assert found.seeds == 3
