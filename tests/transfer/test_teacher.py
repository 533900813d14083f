"""A segmenter that votes on carried labels."""

import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch

from gvsl.backbones.provenance import labels_seen, short_hash
from gvsl.backbones.weights import load_backbone
from gvsl.errors import UserError
from gvsl.propagation import PropagationSettings, carry
from gvsl.propagation.atlases import load_matcher, read_atlases
from gvsl.records import read_record
from gvsl.records.comparability import differences
from gvsl.settings.carrying import CarrySettings
from gvsl.store import Store
from gvsl.transfer import TransferSettings, load_segmenter, run_task
from gvsl.transfer.carrying import carry_labels
from gvsl.transfer.leakage import check_leakage
from gvsl.transfer.teacher import load_teacher, probabilities

from ..conftest import NAMES
from ..matcher import train_matcher
from .test_carried import make_store

SETTINGS = TransferSettings(
    mode="scratch", width=8, levels=2, max_steps=2, validate_every=1, labels=1, crop=(16, 16, 16), checkpoint_every=0
)
HOW = CarrySettings(refine=2, start="none", least_dice=0)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def teacher(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("teacher") / "run"
    run_task("segmentation", store, None, out, SETTINGS)
    return out


@pytest.fixture(scope="module")
def drawn(teacher: Path) -> list[str]:
    return list(read_record(teacher).config["train_cases"])


def test_probabilities_are_those_of_the_network(store: Store, teacher: Path) -> None:
    model = load_segmenter(teacher)
    image = torch.from_numpy(store.image("s3"))[None, None]
    with torch.no_grad():
        expected = model.network(image).softmax(dim=1)  # of one window
    assert torch.allclose(probabilities(replace(model, crop=(64, 64, 64)), image), expected, atol=1e-6)
    tiled = probabilities(model, image)  # of several, which overlap
    assert tiled.shape == expected.shape
    assert torch.allclose(tiled.sum(dim=1), torch.ones(1, *image.shape[2:]), atol=1e-5)


def test_it_is_averaged_with_all_votes(store: Store, teacher: Path, drawn: list[str], tmp_path: Path) -> None:
    even = load_teacher(teacher, store, drawn, NAMES, CPU).votes
    settings = PropagationSettings(refine=2, start="none", least_dice=0)
    method = load_matcher(train_matcher(store, tmp_path / "matcher"))
    atlases = read_atlases({store: drawn}).atlases
    image = torch.from_numpy(store.image("s3"))[None, None]
    teachers = (None, even, even._replace(share=0.75), even._replace(share=1.0))
    alone, both, most, only = (carry(method, atlases, image, settings, teacher=each).votes for each in teachers)
    taught = even.segment(image)
    assert torch.allclose(both, (alone + taught) / 2)
    assert torch.allclose(most, (alone + 3 * taught) / 4)
    assert torch.equal(only, taught)
    settings_of_run = replace(SETTINGS, carrying=replace(HOW, teacher=str(teacher)))
    carried = carry_labels(tmp_path / "matcher", store, drawn, NAMES, tmp_path / "pool", settings_of_run, CPU)
    (other,) = {"s0", "s1"} - set(drawn)
    volume = torch.from_numpy(store.image(other))[None, None]
    expected = carry(method, atlases, volume, settings, teacher=even).classes
    assert np.array_equal(carried.labels.classes(other), expected[0, 0].numpy())


def test_a_run_with_one_says_so_and_is_not_taken_for_one_without(store: Store, teacher: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, mode="carried", carrying=replace(HOW, teacher=str(teacher)))
    taught = run_task("segmentation", store, None, tmp_path / "taught", settings)
    plain = run_task("segmentation", store, None, tmp_path / "plain", replace(settings, carrying=HOW))
    assert taught.config["carrying"]["teacher"] == str(teacher)
    assert taught.config["teacher_leakage"] == "no held-out image was trained on"
    assert "teacher_leakage" not in plain.config
    assert [change.name for change in differences(plain, taught)] == ["carrying.teacher"]
    moved = replace(taught, config={**taught.config, "carrying": taught.config["carrying"] | {"teacher": "elsewhere"}})
    assert differences(taught, moved) == []  # each draw has its own


def test_what_it_learnt_from_is_what_its_student_learnt_from(
    store: Store, teacher: Path, drawn: list[str], tmp_path: Path
) -> None:
    informed, seen = tmp_path / "teacher", short_hash(store.cases["s4"].content)  # of test
    copytree(teacher, informed)
    config = informed / "weights" / "config.json"
    content = json.loads(config.read_text(encoding="utf-8"))
    content["provenance"]["labels"] = content["provenance"]["labels"] | {"elsewhere": "e" * 16}
    config.write_text(json.dumps(content), encoding="utf-8")
    with (informed / "weights" / "learnt_from.txt").open("a", encoding="ascii") as file:
        file.write(f"{seen}\n")
    settings = replace(SETTINGS, allow_leakage=True, carrying=replace(HOW, teacher=str(informed)))
    matcher = train_matcher(store, tmp_path / "matcher")
    record = run_task("segmentation", store, None, tmp_path / "student", settings, carry=matcher)
    assert record.config["carry_leakage"] == "no held-out image was trained on"
    assert record.config["teacher_leakage"] == "held out but trained on: s4"
    student = load_backbone(tmp_path / "student")
    assert labels_seen(student.provenance) == {
        "elsewhere": "e" * 16,
        **{case: short_hash(store.cases[case].content) for case in drawn},
    }
    with pytest.raises(UserError, match=r"student was trained on images that .* in val or test: s4"):
        check_leakage(student, tmp_path / "student", store)


def test_one_that_had_other_labels_is_refused(store: Store, teacher: Path, drawn: list[str]) -> None:
    (other,) = {"s0", "s1"} - set(drawn)
    with pytest.raises(UserError, match=f"trained on the labels of {drawn[0]}, not among the 1 labelled cases"):
        load_teacher(teacher, store, [other], NAMES, CPU)
    load_teacher(teacher, store, [other], NAMES, CPU, allow_leakage=True)
    for others in ({1: "spleen"}, dict(reversed(NAMES.items()))):  # probabilities have an order, and no names
        with pytest.raises(UserError, match="name a teacher of the same structures"):
            load_teacher(teacher, store, drawn, others, CPU)
    with pytest.raises(UserError, match=r"teacher has no effect if carrying\.images is atlas"):
        CarrySettings(images="atlas", teacher="run")
    for share in (0.0, 1.5):
        with pytest.raises(UserError, match=f"carrying.teacher_share is {share}: give more than 0 and at most 1"):
            CarrySettings(teacher="run", teacher_share=share)
    with pytest.raises(UserError, match=r"teacher_share is 1\.0, but there is no teacher"):
        CarrySettings(teacher_share=1.0)


def test_the_cases_that_the_head_of_a_frozen_teacher_was_trained_on_count_too(store: Store, tmp_path: Path) -> None:
    out, settings = tmp_path / "linear", replace(SETTINGS, mode="linear")
    run_task("segmentation", store, None, out, settings)
    (case,) = read_record(out).config["train_cases"]
    own = short_hash(store.cases[case].content)
    found = load_teacher(out, store, [case], NAMES, CPU).learnt_from
    assert found.labels == {case: own}
    assert found.images == frozenset({own})
    (tmp_path / "other").mkdir()
    elsewhere = make_store(tmp_path / "other", lambda _, label: label[::-1])
    unknown = load_teacher(out, elsewhere, elsewhere.split("train"), NAMES, CPU, allow_leakage=True).learnt_from
    assert (unknown.images, unknown.labels) == (None, None)
