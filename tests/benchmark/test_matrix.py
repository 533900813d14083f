import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from gvsl.benchmark.matrix import SCRATCH, Column, Run, build_matrix
from gvsl.cli.benchmark import benchmark_options
from gvsl.errors import UserError
from gvsl.propagation.atlases import matches
from gvsl.settings import deciding_settings
from gvsl.settings.benchmark import CARRYING_MODES, FROM_NONE, MODES, UNAUGMENTED
from gvsl.settings.methods import PRETEXTS
from gvsl.settings.pretrain import PretrainSettings, TrainerSettings
from gvsl.transfer import ClusterSettings, TransferSettings

COLUMN = Column("segmentation", Path("stores/hearts"), "ab12")


def pretrain_settings(method: str, seed: int) -> PretrainSettings:
    return PretrainSettings(seed=seed, pretext={"of": method})


def transfer_settings(column: Column, mode: str, seed: int) -> TransferSettings:
    known = {UNAUGMENTED: "scratch", FROM_NONE: "carried"}.get(mode, mode)
    settings = TransferSettings(mode=known, seed=seed, labels=column.labels)  # type: ignore[arg-type]
    if mode == UNAUGMENTED:
        settings = replace(settings, augment=replace(settings.augment, rate=0.0))
    return replace(settings, carrying=replace(settings.carrying, start="none")) if mode == FROM_NONE else settings


def matrix(*columns: Column) -> list[Run]:
    methods, modes = ["gvsl", "byol"], ["linear", "finetune"]
    return build_matrix(columns or (COLUMN,), methods, modes, [0, 1], pretrain_settings, transfer_settings)


def test_every_cell_is_there_once_and_after_what_it_needs() -> None:
    runs = matrix()
    assert len(runs) == 2 * (2 + 2 * 3)  # seeds x (pre-trainings + modes x (scratch and methods))
    assert len({run.name for run in runs}) == len(runs)
    for place, run in enumerate(runs):
        assert run.weights is None or runs.index(run.weights) < place
        assert run.weights is None or (run.weights.method, run.weights.seed) == (run.method, run.seed)


def test_scratch_is_linear_on_random_features_or_trains_all() -> None:
    scratch = [run for run in matrix() if run.method == "scratch"]
    assert {run.weights for run in scratch} == {None}
    assert {getattr(run.settings, "mode") for run in scratch} == {"linear", "scratch"}  # noqa: B009 - of either kind


def test_a_key_follows_from_all_that_decides_a_run_and_nothing_else() -> None:
    runs = {(run.pretrains, run.method, run.seed, getattr(run.settings, "mode", "")): run for run in matrix()}
    linear = runs[False, "gvsl", 0, "linear"]
    elsewhere = replace(linear, column=replace(COLUMN, store=Path("other/hearts")))
    assert elsewhere.key == linear.key  # a store is what it holds, not where it lies

    assert replace(linear, column=replace(COLUMN, store_hash="cd34")).key != linear.key
    assert replace(linear, column=replace(COLUMN, task="shc")).key != linear.key
    assert replace(linear, settings=transfer_settings(COLUMN, "linear", 3)).key != linear.key
    looked = ClusterSettings(points=7)
    whole = runs[False, "gvsl", 0, "finetune"]
    for run, matters in ((linear, True), (whole, False)):  # where nothing is frozen there is nothing to look at
        assert isinstance(run.settings, TransferSettings)
        assert (replace(run, settings=replace(run.settings, clusters=looked)).key != run.key) is matters
        assert replace(run, settings=replace(run.settings, allow_leakage=True)).key == run.key  # if it runs at all
    assert linear.weights is not None
    longer = PretrainSettings(trainer=TrainerSettings(max_steps=7), pretext={"of": "gvsl"})
    assert replace(linear, weights=replace(linear.weights, settings=longer)).key != linear.key


def test_a_key_is_that_from_before_a_setting_was_added() -> None:
    """A benchmark that an earlier gvsl began goes on: its finished runs are not trained anew."""
    run = matrix()[0]
    later = ("trainer.nodes", "backbone.name", "backbone.blocks", "backbone.max_width")
    known = deciding_settings(run.settings, extras=True)
    decides = {
        "format": 2,
        "method": run.method,
        "task": None,
        "store": COLUMN.store_hash,
        "settings": {"carry": "none"} | {name: value for name, value in known.items() if name not in later},
        "weights": None,
    }
    assert run.key == hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:10]
    for trainer in (TrainerSettings(nodes=2), TrainerSettings(devices=2)):
        assert replace(run, settings=replace(pretrain_settings("gvsl", 0), trainer=trainer)).key != run.key


def test_names_of_transfers_are_what_they_always_were() -> None:
    tuned = TransferSettings(mode="finetune", width=8)
    probe = TransferSettings(mode="linear", optimiser="lbfgs", whiten=True, width=8)
    assert [Run(COLUMN, "gvsl", 0, settings).key for settings in (tuned, probe)] == ["f23c927ca0", "03dc6d310a"]


def test_one_source_is_pre_trained_on_once_for_all_columns() -> None:
    brains, lungs = Column("sbm", Path("stores/brains"), "cd34"), Column("ccc", Path("stores/lungs"), "ef56")
    methods, modes = ["gvsl", "byol"], ["linear", "finetune"]
    runs = build_matrix(
        [COLUMN, brains, lungs], methods, modes, [0], pretrain_settings, transfer_settings, source=COLUMN
    )
    assert len(runs) == 2 + 3 * 2 * 3  # pre-trainings, then columns x modes x (scratch and methods)
    pretrained = [run for run in runs if run.pretrains]
    assert {run.column for run in pretrained} == {COLUMN}
    for run in runs[2:]:
        assert run.weights is None or run.weights.key in {own.key for own in pretrained}
    own = {run.key: run for run in build_matrix([COLUMN], methods, modes, [0], pretrain_settings, transfer_settings)}
    assert own.keys() < {run.key for run in runs}  # the column of the source itself is the same as alone


def few_labels(modes: list[str], draws: dict[int | None, int], seeds: list[int]) -> list[Run]:
    columns = [replace(COLUMN, labels=labels) for labels in draws]
    methods, matching = ["gvsl", "byol"], ["gvsl"]
    runs = build_matrix(
        columns, methods, modes, seeds, pretrain_settings, transfer_settings, draws=draws, matching=matching
    )
    return [run for run in runs if not run.pretrains]


def test_every_mode_has_its_arms() -> None:
    arms = {
        mode: {
            (run.settings.mode, run.method, run.weights and run.weights.method, run.carry and run.carry.method)
            for run in few_labels([mode], {1: 1}, [0])
            if isinstance(run.settings, TransferSettings)
        }
        for mode in MODES
    }
    assert arms == {
        "linear": {
            ("linear", SCRATCH, None, None),
            ("linear", "gvsl", "gvsl", None),
            ("linear", "byol", "byol", None),
        },
        "finetune": {
            ("scratch", SCRATCH, None, None),
            ("finetune", "gvsl", "gvsl", None),
            ("finetune", "byol", "byol", None),
        },
        "unaugmented": {("scratch", SCRATCH, None, None)},
        "carried": {("carried", SCRATCH, None, None), ("carried", "gvsl", "gvsl", None)},
        "student": {("scratch", SCRATCH, None, "gvsl")},
        "finetuned-student": {("finetune", "gvsl", "gvsl", "gvsl")},
    }
    assert len({run.name for run in few_labels(list(MODES), {1: 1}, [0])}) == sum(map(len, arms.values()))


def test_draws_take_the_pre_trainings_in_turn() -> None:
    runs = [run for run in few_labels(["carried"], {1: 5, 5: 2}, [3, 4]) if run.weights is not None]
    found = [(run.column.labels, run.seed, run.weights and run.weights.seed) for run in runs]
    assert found == [(1, 0, 3), (1, 1, 4), (1, 2, 3), (1, 3, 4), (1, 4, 3), (5, 0, 3), (5, 1, 4)]


def test_a_student_is_not_taken_for_another_ones_and_old_names_stay() -> None:
    (student,) = few_labels(["student"], {1: 1}, [0])
    (plain,) = [run for run in few_labels(["finetune"], {1: 1}, [0]) if run.method == SCRATCH]
    assert student.carry is not None
    other = replace(student, carry=replace(student.carry, seed=9, settings=pretrain_settings("gvsl", 9)))
    assert len({student.key, plain.key, other.key}) == 3
    assert replace(student, carry=None).key == plain.key


def test_matches_without_an_affine_head_start_from_the_field() -> None:
    def with_pretext(method: str, seed: int) -> PretrainSettings:
        return PretrainSettings(seed=seed, pretext=PRETEXTS[method].settings)

    def starts(mode: str) -> dict[str, str]:
        methods = ["gvsl", "gvsl-no-affine"]
        runs = build_matrix([COLUMN], methods, [mode], [0], with_pretext, transfer_settings, matching=methods)
        return {
            needed.method: run.settings.carrying.start
            for run in runs
            for needed in run.needs
            if isinstance(run.settings, TransferSettings)
        }

    for mode in CARRYING_MODES:
        assert starts(mode) == {"gvsl": "affine", "gvsl-no-affine": "field"}
    assert starts("finetune") == {"gvsl": "affine", "gvsl-no-affine": "affine"}  # no effect, and the name stays


def test_the_methods_that_match_are_told_from_the_others() -> None:
    assert [name for name in ("gvsl", "gvsl-no-affine", "gvsl-no-matching", "simclr") if matches(name)] == [
        "gvsl",
        "gvsl-no-affine",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--draws", "3"], "--draws needs the number of labelled cases"),
        (["--labels", "1", "2", "3", "--draws", "3", "2"], "--draws has 2 numbers and --labels 3"),
        (["--labels", "1", "--draws", "0"], "--draws is 0"),
        (["--modes", "carry"], "carried"),
    ],
)
def test_mistakes_in_the_axes_are_told(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        benchmark_options(["--out", "DIR", *words])


def test_one_number_of_draws_is_for_all_labels() -> None:
    assert benchmark_options(["--out", "D", "--labels", "1", "5", "--draws", "4"]).draws == {1: 4, 5: 4}
    assert benchmark_options(["--out", "D", "--labels", "1", "5", "--draws", "4", "2"]).draws == {1: 4, 5: 2}
    assert benchmark_options(["--out", "D", "--labels", "1", "5"]).draws is None
