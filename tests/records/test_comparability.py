"""Which runs may be compared."""

from dataclasses import asdict, replace
from typing import Any, Literal

from gvsl.records import RunRecord
from gvsl.records.comparability import (
    EARLIER_EFFECTS,
    NOT_RECORDED,
    changes,
    deciding,
    differences,
    drew_by_process,
    labels_of,
    without_moot,
)
from gvsl.settings import effects_of
from gvsl.settings.carrying import CarrySettings
from gvsl.settings.pretrain import PretrainSettings
from gvsl.settings.transfer import resolve_augment
from gvsl.transfer import TransferSettings
from gvsl.transfer.augmentation import SPATIAL, AugmentSettings

NETWORK = {"backbone.name": "unet", "backbone.blocks": "[]", "backbone.max_width": "320"}
"""The network of older records."""
ADDED = {"augment.rate", "carry", "patience", "ema_decay", "whiten", "levels", *NETWORK}
"""Settings of a transfer that older records lack."""


def record(kind: Literal["pretrain", "transfer"] = "transfer", **config: Any) -> RunRecord:
    return RunRecord(kind, "run", 0, config, {"name": "hearts", "hash": "1"})


def test_settings_that_follow_from_others_or_decide_nothing_are_left_out() -> None:
    made = record(
        "pretrain",
        seed=1,
        weights="w",
        method="gvsl",
        clusters={"points": 9},
        data={"workers": 2, "order": "independent", "pairing": "whole", "jitter": 0.05},
        optimiser={"rate": 0.1},
    )
    assert deciding(made) == {
        "optimiser.rate": "0.1",
        "data.order": "independent",
        "data.pairing": "whole",
        "data.jitter": "0.05",
        "backbone.levels": "5",
        "trainer.nodes": "1",
        **NETWORK,
    }


def test_an_older_pre_training_is_not_taken_for_one_with_other_heads_or_levels() -> None:
    pretext = {"matching": True, "ncc_weight": 1.0}
    older = record("pretrain", backbone={"width": 16}, pretext=pretext)
    same = record("pretrain", backbone={"width": 16, "levels": 5}, pretext=pretext | {"affine_head": "pooled"})
    assert differences(older, same) == []
    now = record("pretrain", backbone={"width": 16, "levels": 4}, pretext=pretext | {"affine_head": "keypoints"})
    assert [change.name for change in differences(older, now)] == ["backbone.levels", "pretext.affine_head"]


def test_settings_of_gvsl_are_not_given_to_other_methods() -> None:
    made = deciding(record("pretrain", backbone={"levels": 4}, pretext={"temperature": 0.1}))
    assert {name for name in made if name.startswith("pretext.")} == {"pretext.temperature"}


def test_a_training_has_no_effect_where_nothing_is_trained() -> None:
    def run(**changed: Any) -> RunRecord:
        return record(**asdict(replace(TransferSettings(mode="carried", labels=1), **changed)))

    assert {name.partition(".")[0] for name in deciding(run())} == {"labels", "levels", "carrying"}
    assert [change.name for change in differences(run(), run(levels=4))] == ["levels"]  # they decide the padding
    assert differences(run(), run(learning_rate=1.0, max_steps=3, crop=(8, 8, 8))) == []
    changed = differences(run(), run(carrying=CarrySettings(start="field"), labels=2))
    assert [change.name for change in changed] == ["carrying.start", "labels"]


def test_all_labels_are_as_many_as_there_were() -> None:
    whole, drawn = record(labels=None, train_cases=["a", "b"]), record(labels=2)
    assert labels_of(whole) == labels_of(drawn) == 2
    assert labels_of(record(labels=None)) is None
    assert deciding(whole) == {"labels": "2"}
    assert deciding(record(labels=None)) == {"labels": "all"}
    assert differences(whole, drawn) == []
    assert [change.name for change in differences(whole, record(labels=3))] == ["labels"]


def test_an_older_record_has_the_value_that_held_before_the_setting() -> None:
    older = record(max_steps=9)
    assert deciding(older)["patience"] == "none"
    assert differences(older, record(max_steps=9, patience=None)) == []
    (change,) = differences(older, record(max_steps=9, patience=4))
    assert str(change) == "patience none, now 4"


def test_an_augmented_run_is_told_from_an_older_one_which_was_not() -> None:
    def run(mode: Literal["linear", "scratch"], augment: AugmentSettings) -> RunRecord:
        return record(**asdict(resolve_augment(TransferSettings(mode=mode, augment=augment))))

    older = record(
        **{name: value for name, value in run("scratch", AugmentSettings()).config.items() if name != "augment"}
    )
    (change,) = differences(older, run("scratch", AugmentSettings()))
    assert str(change) == "augment.rate 0.0, now 1.0"
    assert differences(older, run("scratch", AugmentSettings(rate=0))) == []
    assert differences(older, run("linear", AugmentSettings())) == []
    stronger = AugmentSettings(spatial=replace(SPATIAL, rotation=40))
    (change,) = differences(run("scratch", AugmentSettings()), run("scratch", stronger))
    assert str(change) == "augment.spatial.rotation 20.0, now 40"


def test_ranges_of_an_augmentation_that_is_off_decide_nothing() -> None:
    one: dict[str, Any] = {"augment": {"rate": 0.0, "spatial": {"rotation": 20.0}}}
    other: dict[str, Any] = {"augment": {"rate": 0.0, "spatial": {"rotation": 40.0}, "mirror": [0]}}
    assert changes(one, other, {}) == changes({}, other, {}) == []
    assert deciding(record(**one)) == deciding(record(**other))
    (change,) = changes({}, {"augment": {"rate": 1.0}}, {})
    assert str(change) == "augment.rate 0.0, now 1.0"


def test_a_record_without_settings_is_given_none() -> None:
    assert deciding(record(method="gvsl", reason="no memory")) == {}


def test_the_effects_in_a_record_are_those_that_count() -> None:
    made = record(max_steps=9, device="cpu", new=1)
    assert deciding(made).keys() == {"max_steps", "new", *ADDED}
    made.effects = {"new": "nothing"}
    assert deciding(made).keys() == {"max_steps", "device", *ADDED}


def test_a_change_names_the_setting_and_both_values() -> None:
    (change,) = changes({"a": {"b": 1}, "device": "cpu"}, {"a": {"b": 2}, "device": "cuda"}, {"device": "nothing"})
    assert str(change) == "a.b 1, now 2"
    (change,) = changes({}, {"new": 3}, {})
    assert str(change) == f"new {NOT_RECORDED}, now 3"


def test_a_step_may_be_shared_out_to_other_processes_where_volumes_count_alone() -> None:
    def config(pairs: int, devices: int, nodes: int) -> dict[str, Any]:
        return {"data": {"batch_size": pairs}, "trainer": {"devices": devices, "nodes": nodes}}

    assert changes(config(1, 2, 4), config(4, 2, 1), {}, by_volume=True) == []
    assert [change.name for change in changes(config(1, 2, 1), config(2, 1, 1), {})] == [
        *("data.batch_size", "trainer.devices"),
    ]
    (change,) = changes(config(2, 4, 1), config(2, 3, 1), {}, by_volume=True)
    assert str(change) == "trainer.devices 4, now 3"


def test_runs_whose_processes_drew_for_themselves_are_known() -> None:
    assert drew_by_process({"data": {"batch_size": 2}, "trainer": {"devices": 2}})
    assert not drew_by_process({"trainer": {"devices": 1}})
    assert not drew_by_process({"trainer": {"devices": 2, "nodes": 1}})


def test_the_effects_of_earlier_records_are_those_of_today() -> None:
    today = effects_of(TransferSettings()) | effects_of(PretrainSettings())
    assert today == EARLIER_EFFECTS


def test_all_cases_of_a_record_that_does_not_list_them_are_not_two() -> None:
    whole = RunRecord("transfer", "run", 0, {"mode": "linear", "labels": None}, {"name": "store", "hash": "1"})
    two = RunRecord("transfer", "run", 0, {"mode": "linear", "labels": 2}, {"name": "store", "hash": "1"})
    assert deciding(whole)["labels"] == "all"
    assert [change.name for change in differences(whole, two)] == ["labels"]


def test_the_weight_of_labels_that_none_are_named_for_decides_nothing() -> None:
    plain = {"pretext.window": 9, "pretext.labels": ()}
    assert without_moot({**plain, "pretext.labels_weight": 2.0}) == plain
    seen = {**plain, "pretext.labels": ("a", "b"), "pretext.labels_weight": 2.0}
    assert without_moot(seen) == seen


def test_levels_that_an_older_carried_run_did_not_record_are_taken_to_agree() -> None:
    config = asdict(TransferSettings(mode="carried", labels=1, levels=4))
    older = record(**{name: value for name, value in config.items() if name != "levels"})
    assert differences(older, record(**config)) == []
    assert [change.name for change in differences(record(**config), record(**config | {"levels": 5}))] == ["levels"]
