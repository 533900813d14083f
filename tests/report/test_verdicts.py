"""Comparisons in words."""

from dataclasses import replace

import pytest

from gvsl.report.grouping import groups
from gvsl.report.verdicts import feature_name, headline, verdict

from .probes import MINE, OTHER, probe


def test_verdict_and_headline_state_both_means_and_the_difference() -> None:
    (group,) = groups([*MINE, *OTHER])
    text = verdict(group, "gvsl")
    for part in ("DSC 0.583", "random features: 0.450", "+0.133", "3 cases", "2 seeds", "2 of 3 cases"):
        assert part in text, part
    assert headline([*MINE, *OTHER], [group]) == "Linear on gvsl features: DSC 0.583, against 0.450 from random ones"
    (alone,) = groups(MINE)
    assert "no run on random features" in verdict(alone, "gvsl")
    assert headline(MINE, [alone]) == "Nothing to compare yet"


@pytest.mark.parametrize(("protocol", "start"), [("carried", "without a network"), ("student", "from scratch")])
def test_what_is_not_pre_trained_is_named_by_the_protocol(protocol: str, start: str) -> None:
    compared, alone = (replace(groups(runs)[0], protocol=protocol) for runs in ([*MINE, *OTHER], MINE))
    assert headline([*MINE, *OTHER], [compared]).endswith(f"DSC 0.583, against 0.450 {start}")
    assert f"There is no run {start} with the same settings" in verdict(alone, "gvsl")


def test_arms_without_a_common_seed_are_not_compared() -> None:
    runs = [MINE[0], OTHER[1]]
    (group,) = groups(runs)
    assert "No run on random features has the same seed" in verdict(group, "gvsl")
    assert headline(runs, [group]) == "Nothing to compare yet"


def test_each_arm_is_shown_over_the_seeds_that_both_have() -> None:
    (group,) = groups([*MINE, *OTHER, probe(2, {"a": 0.9, "b": 0.9, "c": 0.9}, "scratch")])
    text = verdict(group, "gvsl")
    assert "random features: 0.450" in text
    assert text.count("2 seeds") == 3


def test_an_arm_that_differs_in_its_pre_training_is_named_readably() -> None:
    assert feature_name("gvsl (2400 steps)", "linear") == "linear on gvsl features (2400 steps)"
    assert feature_name("gvsl", "finetune") == "fine-tuned from gvsl weights"
