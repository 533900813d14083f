"""Scores of carried labels as a run that trains nothing."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Literal

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gvsl.backbones import UNet3D
from gvsl.cases import Case
from gvsl.errors import UserError
from gvsl.methods import GVSL
from gvsl.preparation import prepare
from gvsl.preprocessing import Preprocessing
from gvsl.propagation import PropagationSettings, carry
from gvsl.propagation.atlases import load_matcher, read_atlases
from gvsl.records import read_record
from gvsl.records.comparability import deciding, differences
from gvsl.report.run_arrays import read_picture
from gvsl.settings.carrying import CarrySettings
from gvsl.store import Store
from gvsl.transfer import TransferSettings, run_task

from ..conftest import NAMES, subject
from ..matcher import train_matcher, write_matcher_without_affine

SPLITS = [("pretrain", "train")] * 2 + [("val",)] + [("test",)] * 2
SETTINGS = TransferSettings(
    mode="carried", labels=1, levels=2, carrying=CarrySettings(refine=2, start="affine", least_dice=0.99)
)
CONTROL = replace(SETTINGS, carrying=replace(SETTINGS.carrying, start="none"))
Change = Callable[[int, NDArray[np.uint8]], NDArray[np.uint8]]


def make_store(folder: Path, change: Change = lambda _, label: label, names: dict[int, str] = NAMES) -> Store:
    """Two training cases, one of validation and two of test, with label maps that may be changed by their number."""
    cases = []
    for number, splits in enumerate(SPLITS):
        image, label = subject(number)
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / f"image{number}.nii")
        nib.save(nib.Nifti1Image(change(number, label), np.eye(4)), folder / f"label{number}.nii")
        cases.append(Case(f"s{number}", folder / f"image{number}.nii", folder / f"label{number}.nii", splits))
    return prepare(cases, folder / "store", Preprocessing(crop="none"), label_names=names, source="made")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("carried"))


@pytest.fixture(scope="module")
def matcher(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_matcher(store, tmp_path_factory.mktemp("matcher") / "run")


@pytest.fixture(scope="module")
def carried(store: Store, matcher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "carried"
    run_task("segmentation", store, matcher, out, SETTINGS)
    return out


@pytest.fixture(scope="module")
def control(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "control"
    run_task("segmentation", store, None, out, CONTROL)
    return out


def test_the_scores_are_of_the_labels_that_propagation_carries(carried: Path, store: Store, matcher: Path) -> None:
    record = read_record(carried)
    atlases = read_atlases({store: record.config["train_cases"]}).atlases
    how = PropagationSettings(refine=2, start="affine", least_dice=0.99)
    for row in record.cases:
        case = str(row["id"])
        found = carry(load_matcher(matcher), atlases, torch.from_numpy(store.image(case))[None, None], how)
        classes, truth = found.classes[0, 0].numpy(), np.searchsorted([0, *NAMES], store.label(case))
        for value, name in enumerate(NAMES.values(), start=1):
            both = (classes == value) & (truth == value)
            dice = 2 * both.sum() / ((classes == value).sum() + (truth == value).sum())
            assert row[f"dice/{name}"] == pytest.approx(dice, abs=1e-6)
        assert row["reverse_dice"] == pytest.approx(found.reverse_dice)


def test_held_out_cases_are_no_templates(store: Store, tmp_path: Path) -> None:
    how = replace(CONTROL, carrying=replace(CONTROL.carrying, templates=3, least_dice=0))
    record = run_task("segmentation", store, None, tmp_path / "run", how)
    (atlas,) = record.config["train_cases"]
    assert record.config["carry_templates"] == [case for case in ("s0", "s1") if case != atlas]
    assert record.config["carrying"]["templates"] == 3


def test_the_record_tells_atlases_weights_time_and_what_failed(carried: Path, matcher: Path) -> None:
    record = read_record(carried)
    assert (record.kind, record.status, record.config["mode"]) == ("transfer", "finished", "carried")
    assert len(record.config["train_cases"]) == 1
    assert record.config["weights"] == str(matcher)
    assert record.pretraining["steps"] == 1
    assert record.metrics["seconds_per_volume"] > 0
    assert 0 <= record.metrics["val/dice"] <= 1
    scored = {row["id"]: row["reverse_dice"] for row in record.cases}
    failed = [case for case in record.config["carry_failed"] if case in scored]
    assert failed == [case for case, agreement in scored.items() if agreement < 0.99]
    assert failed  # and they are scored all the same
    assert not (carried / "weights").exists()


def test_its_pictures_have_the_confidence(carried: Path) -> None:
    for entry in read_record(carried).pictures:
        planes = read_picture(carried / entry["file"], entry["kind"], entry["title"]).planes("confidence")
        assert planes is not None
        assert all(plane.min() >= 0 and plane.max() <= 1 and np.ptp(plane) > 0 for plane in planes)


def test_the_control_is_compared_with_it_and_a_training_is_not(carried: Path, control: Path) -> None:
    one, other = read_record(carried), read_record(control)
    assert other.config["method"] == "scratch"
    assert differences(one, other) == []
    assert "carrying.start" in deciding(one)
    assert {name.partition(".")[0] for name in deciding(other)} == {"labels", "levels", "carrying"}


@pytest.mark.parametrize(
    ("settings", "weights", "more", "message"),
    [
        (SETTINGS, False, {}, "--carrying.start none"),
        (SETTINGS, True, {"carry": True}, "leave out --carry"),
        (CONTROL, False, {"resume": True}, "leave out --resume"),
    ],
)
def test_what_has_no_effect_is_refused(
    settings: TransferSettings,
    weights: bool,
    more: dict[str, bool],
    message: str,
    store: Store,
    matcher: Path,
    tmp_path: Path,
) -> None:
    chosen = matcher if weights else None
    carry_run = matcher if more.get("carry") else None
    with pytest.raises(UserError, match=message):
        run_task(
            "segmentation", store, chosen, tmp_path / "run", settings, carry=carry_run, resume=more.get("resume", False)
        )
    assert not (tmp_path / "run").exists()


def without(value: int, numbers: range) -> Change:
    """Return a change that removes a structure from the label maps of some cases."""
    return lambda number, label: np.where(label == value, 0, label).astype(label.dtype) if number in numbers else label


def test_a_structure_that_no_atlas_has_is_refused_by_name(tmp_path: Path) -> None:
    missing = next(iter(NAMES))
    store = make_store(tmp_path, without(missing, range(2)))
    with pytest.raises(UserError, match=f"{NAMES[missing]} .*has no voxel in the 1 training cases"):
        run_task("segmentation", store, None, tmp_path / "run", CONTROL)


def test_a_structure_that_a_case_lacks_is_scored_there(tmp_path: Path) -> None:
    missing = next(iter(NAMES))  # one organ of two is cut out of both test cases, as by a surgeon
    store = make_store(tmp_path, without(missing, range(3, 5)))
    record = run_task("segmentation", store, None, tmp_path / "run", CONTROL)
    for row in record.cases:
        assert row[f"dice/{NAMES[missing]}"] == 0  # the atlas carries it nevertheless


def test_holes_in_a_label_map_are_carried_as_background(store: Store, tmp_path: Path) -> None:
    def bore(number: int, label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if number > 1:
            return label
        holes = np.indices(label.shape).sum(axis=0) % 4 == 0
        return np.where(holes, 0, label).astype(label.dtype)

    bored = make_store(tmp_path, bore)
    found = []
    for source in (store, bored):
        atlases = read_atlases({source: ["s0"]}).atlases
        image = torch.from_numpy(source.image("s0"))[None, None]  # onto itself: nothing but the label map differs
        method = GVSL(UNet3D(width=8, levels=2)).eval()
        found.append(carry(method, atlases, image, PropagationSettings(refine=0, start="none", least_dice=0)))
    whole, holed = (each.classes[0, 0].numpy() for each in found)
    assert np.array_equal(holed, np.searchsorted([0, *NAMES], bored.label("s0")))
    assert (holed > 0).sum() < (whole > 0).sum()


def test_what_the_atlas_ignores_scores_as_background(tmp_path: Path) -> None:
    """Else a case would gain by what its atlas doesn't know."""

    def hide(number: int, label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        hidden = (np.indices(label.shape)[2] < 6) & (number < 2)
        return np.where(hidden, 9, label).astype(label.dtype)

    store = make_store(tmp_path, hide, {**NAMES, 9: "ignore"})
    still = replace(CONTROL, carrying=replace(CONTROL.carrying, refine=0, least_dice=0))
    record = run_task("segmentation", store, None, tmp_path / "run", still)
    found = store.label(record.config["train_cases"][0])
    assert (found == 9).any()
    for row in record.cases:
        truth = store.label(str(row["id"]))
        for value, name in NAMES.items():
            both = 2 * ((found == value) & (truth == value)).sum()
            assert row[f"dice/{name}"] == pytest.approx(both / ((found == value).sum() + (truth == value).sum()))


@pytest.mark.parametrize("mode", ["carried", "scratch"])
def test_a_network_without_an_affine_head_is_told_before_it_matches(
    store: Store, tmp_path: Path, mode: Literal["carried", "scratch"]
) -> None:
    run = write_matcher_without_affine(store, tmp_path / "run")
    weights, carry_run = (run, None) if mode == "carried" else (None, run)
    settings = TransferSettings(mode=mode, labels=1, levels=2, width=8, max_steps=1)
    with pytest.raises(UserError, match=r"run has no affine head: give --carrying\.start field or none"):
        run_task("segmentation", store, weights, tmp_path / "out", settings, carry=carry_run)


def test_weights_that_saw_other_labels_are_refused(store: Store, matcher: Path, tmp_path: Path) -> None:
    run = Path(copytree(matcher, tmp_path / "run"))
    config = json.loads((run / "weights" / "config.json").read_text())
    config["provenance"]["labels"] = {"s9": "0" * 16}
    (run / "weights" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="saw the labels of s9, not among the 1 cases labelled here"):
        run_task("segmentation", store, run, tmp_path / "out", replace(SETTINGS, labels=1))
