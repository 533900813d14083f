from dataclasses import replace
from pathlib import Path

from gvsl.benchmark.matrix import Column, Run, build_matrix
from gvsl.settings.pretrain import PretrainSettings, TrainerSettings
from gvsl.transfer import ClusterSettings, TransferSettings

COLUMN = Column("segmentation", Path("stores/hearts"), "ab12")


def pretrain_settings(method: str, seed: int) -> PretrainSettings:
    return PretrainSettings(seed=seed, pretext={"of": method})


def transfer_settings(column: Column, mode: str, seed: int) -> TransferSettings:
    return TransferSettings(mode=mode, seed=seed)  # type: ignore[arg-type]


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
    assert linear.key == matrix()[matrix().index(linear)].key
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
