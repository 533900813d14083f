"""Groups of comparable transfer runs, also among the repository's own records."""

from collections import defaultdict
from functools import cache
from pathlib import Path
from statistics import fmean

import pytest

from gvsl.records import RunRecord, find_records
from gvsl.report.grouping import RANDOM, arm_of, groups, protocol_of
from gvsl.report.run_findings import findings
from gvsl.report.runs import Run, read_runs
from gvsl.report.scores import case_ids, difference
from gvsl.report.verdicts import comparisons, headline

from .probes import MINE, OTHER, probe

RECORDS = Path(__file__).parents[2] / "docs/records"


def test_random_features_and_the_protocol_are_recognised() -> None:
    assert [arm_of(MINE[0]), arm_of(OTHER[0])] == ["gvsl", RANDOM]
    whole = probe(0, {"a": 0.1}, "scratch", config={"mode": "scratch"})
    assert (arm_of(whole), protocol_of(whole)) == (RANDOM, "finetune")
    assert (arm_of(OTHER[0]), protocol_of(OTHER[0])) == (RANDOM, "linear")
    assert protocol_of(probe(0, {"a": 0.1}, config={"mode": "finetune"})) == "finetune"


def test_training_from_scratch_is_the_baseline_of_fine_tuning_alone() -> None:
    """A linear probe on random features and a network trained whole from random weights are two baselines."""
    tuned = probe(0, {"a": 0.3}, config={"mode": "finetune"})
    whole = probe(0, {"a": 0.9}, "scratch", config={"mode": "scratch"})
    fine, linear = groups([tuned, whole, *MINE, *OTHER])
    assert [run.record.config["mode"] for run in fine.runs] == ["scratch", "finetune"]
    assert {run.record.config["mode"] for run in linear.runs} == {"linear"}
    assert headline([], [fine]) == "Fine-tuned from gvsl weights: DSC 0.300, against 0.900 from scratch"
    assert headline([], [fine, linear]) == ("Pre-training is ahead in 1 of 1 linear and 0 of 1 fine-tuned comparisons")


def test_groups_hold_what_can_be_compared() -> None:
    elsewhere = probe(0, {"a": 0.1}, store={"name": "heads", "hash": "2"})
    tuned = probe(0, {"a": 0.1}, config={"mode": "finetune"})
    failed = probe(2, {"a": 0.9}, status="failed")
    found = groups([failed, *MINE, tuned, elsewhere, *OTHER])
    assert [group.failed for group in found] == [{"gvsl": 1}, {}, {}]
    assert [(group.store, group.protocol, list(group.arms)) for group in found] == [
        ("hearts", "linear", [RANDOM, "gvsl"]),
        ("heads", "linear", ["gvsl"]),
        ("hearts", "finetune", ["gvsl"]),
    ]
    assert [run.record.seed for run in found[0].arms["gvsl"]] == [0, 1]


def test_a_setting_that_both_sides_vary_splits_the_group() -> None:
    runs = [
        probe(0, {"a": value}, weights, config={"data": {"labelled": count}})
        for count, value in ((5, 0.1), (20, 0.3))
        for weights in ("w", "scratch")
    ]
    found = groups(runs)
    assert [group.settings for group in found] == ["data.labelled 20", "data.labelled 5"]
    assert all(list(group.arms) == [RANDOM, "gvsl"] for group in found)


def test_runs_of_different_settings_are_never_compared() -> None:
    runs = [
        probe(0, {"a": 0.9}, config={"max_steps": 5}),
        probe(0, {"a": 0.1}, "scratch", config={"max_steps": 9}),
    ]
    first, second = groups(runs)
    assert comparisons([first, second]) == []
    assert headline(runs, [first, second]) == "Nothing to compare yet"
    text = " | ".join(finding.text for finding in findings(runs, [first, second]))
    assert "no finished run on random features to compare gvsl with: max_steps is 5 against 9" in text


def test_numbers_of_labels_are_never_mixed() -> None:
    """Scratch has a run with fewer labels too, which is worse: it is not to be counted against it."""
    runs = [probe(0, {"a": 0.5}, config={"labels": None, "train_cases": ["x", "y"]})]
    runs += [
        probe(0, {"a": 0.6}, "scratch", config={"labels": 2}),
        probe(0, {"a": 0.1}, "scratch", config={"labels": 1}),
    ]
    whole, alone = groups(runs)
    assert (whole.labels, list(whole.arms), alone.labels) == (2, [RANDOM, "gvsl"], 1)
    ((_, _, gap),) = comparisons([whole, alone])
    assert gap.mean == pytest.approx(-0.1)


@pytest.fixture(scope="module")
def recorded() -> list[Run]:
    """The runs that the repository keeps the records of."""
    return read_runs([RECORDS])


def test_the_repositorys_comparisons_are_like_for_like(recorded: list[Run]) -> None:
    compared = [group for group in groups(recorded) if group.can_be_compared]
    assert {(group.store, group.protocol, group.labels) for group in compared} >= {
        *(("hippocampus", way, labels) for way in ("linear", "finetune") for labels in (5, 10, 20)),
        *(("left-atrium-2mm", way, labels) for way in ("linear", "finetune") for labels in (5, 10)),
    }
    for group in compared:
        assert {len(run.record.config["train_cases"]) for run in group.runs} == {group.labels}
        for name in ("optimiser", "learning_rate", "max_steps", "precision"):
            assert len({str(run.record.config[name]) for run in group.runs}) == 1, name


@cache
def found_records() -> list[tuple[Path, RunRecord]]:
    return find_records([RECORDS])


def plainly(store: str, method: str, mode: str, labels: int, steps: int = 600) -> tuple[float, int, int]:
    """The difference to random features over common seeds, cases ahead and cases, from the records' numbers alone."""
    found = found_records()
    made = {folder.name: record for folder, record in found if record.kind == "pretrain"}
    mine: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    other: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for folder, record in found:
        config = record.config
        if record.kind != "transfer" or record.store["name"] != store or "settings" in folder.parts:
            continue
        if len(config["train_cases"]) != labels or (config["mode"] == "linear") is not (mode == "linear"):
            continue
        scratch = config["method"] == "scratch"
        if not scratch and made[Path(config["weights"]).name].config["trainer"]["max_steps"] != steps:
            continue
        if scratch or config["method"] == method:
            for row in record.cases:
                (other if scratch else mine)[record.seed][row["id"]].append(row["dice"])
    seeds = mine.keys() & other.keys()
    cases = next(iter(mine.values())).keys()
    gaps = [fmean(fmean(mine[seed][case]) - fmean(other[seed][case]) for seed in seeds) for case in cases]
    return fmean(gaps), sum(gap > 0 for gap in gaps), len(gaps)


@pytest.mark.parametrize(
    ("store", "method", "mode", "labels"),
    [
        ("hippocampus", "byol", "finetune", 20),
        ("hippocampus", "gvsl", "finetune", 20),
        ("hippocampus", "gvsl", "linear", 10),
        ("hippocampus", "inpainting", "linear", 20),
        ("hippocampus", "gvsl (2400 steps)", "linear", 20),
        ("left-atrium-2mm", "gvsl", "linear", 10),
        ("left-atrium-2mm", "models-genesis", "finetune", 10),
    ],
)
def test_differences_are_those_of_the_results_page(
    recorded: list[Run], store: str, method: str, mode: str, labels: int
) -> None:
    (group,) = [each for each in groups(recorded) if (each.store, each.protocol, each.labels) == (store, mode, labels)]
    gap = difference(group.arms[method], group.arms[RANDOM], case_ids(group.runs), "dice")
    name, _, variant = method.partition(" (")
    mean, ahead, cases = plainly(store, name, mode, labels, 2400 if variant else 600)
    assert gap.mean == pytest.approx(mean)
    assert (gap.cases_ahead, gap.cases) == (ahead, cases)
    page = (RECORDS.parent / "earlier_results.md").read_text(encoding="utf-8")
    assert f"{gap.mean:+.3f} ± {gap.over_cases:.3f} | {ahead} of {cases}" in page


def test_the_headline_of_the_repositorys_records_counts_each_protocol(recorded: list[Run]) -> None:
    compared = groups(recorded)
    counts = {"linear": [0, 0], "finetune": [0, 0]}
    for group, _, gap in comparisons(compared):
        counts[group.protocol][0] += gap.mean > 0
        counts[group.protocol][1] += 1
    linear, fine = (f"{ahead} of {whole}" for ahead, whole in counts.values())
    assert headline(recorded, compared) == (
        f"Pre-training is ahead in {linear} linear and {fine} fine-tuned comparisons"
    )
