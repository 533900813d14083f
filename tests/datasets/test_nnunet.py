import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gvsl.cli import main
from gvsl.datasets.nnunet import nnunet
from gvsl.errors import UserError
from gvsl.preparation import prepare
from gvsl.preprocessing import PRESETS
from gvsl.store import Store

from .conftest import AddCase

TWO = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "aorta": 1, "heart": 2}, "file_ending": ".nrrd"}
ONE = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "aorta", "2": "heart"}}


@pytest.fixture(params=[2, 1])
def root(request: pytest.FixtureRequest, tmp_path: Path, add_case: AddCase) -> Path:
    """A miniature raw dataset of version 2 or 1: ten labelled cases and one test image."""
    listing, ending = (TWO, ".nrrd") if request.param == 2 else (ONE, ".nii.gz")
    root = tmp_path / "Dataset004_Chest"
    for number in range(10):
        image = root / "imagesTr" / f"chest_{number:02d}_0000{ending}"
        add_case(image, root / "labelsTr" / f"chest_{number:02d}{ending}", [1, 2])
    add_case(root / "imagesTs" / f"chest_90_0000{ending}", None, [])
    (root / "dataset.json").write_text(json.dumps({**listing, "numTraining": 10}), encoding="utf-8")
    return root


def change(root: Path, **parts: Any) -> None:
    path = root / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **parts}), encoding="utf-8")


def test_it_becomes_a_store(root: Path, tmp_path: Path) -> None:
    argv = ["prepare", str(root), str(tmp_path / "store"), "--dataset", "nnunet", "--preset", "ct"]
    assert main([*argv, "--processes", "1"]) == 0
    store = Store.open(tmp_path / "store")
    assert sorted(store.cases) == [*(f"chest_{number:02d}" for number in range(10)), "chest_90"]
    assert store.refused == ()
    assert store.label_names == {1: "aorta", 2: "heart"}
    assert [len(store.split(name)) for name in ("train", "val", "test")] == [6, 2, 2]
    assert all(set(np.unique(store.label(case_id))) == {0, 1, 2} for case_id in store.split("train"))


def test_the_ignore_label_is_no_structure(root: Path, tmp_path: Path) -> None:
    change(root, labels={"background": 0, "aorta": 1, "ignore": 2})
    found = nnunet(root)
    store = prepare(found.cases[:2], tmp_path / "store", PRESETS["ct"], label_names=found.label_names, source="x")
    assert (store.label_names, store.ignored) == ({1: "aorta"}, (2,))


def test_the_validation_cases_of_a_fold_are_the_test_split(root: Path) -> None:
    ids = [f"chest_{number:02d}" for number in range(10)]
    folds = [{"train": ids[:3] + ids[5:], "val": ids[3:5]}, {"train": ids[2:], "val": ids[:2]}]
    (root / "splits_final.json").write_text(json.dumps(folds), encoding="utf-8")
    splits = {case.id: case.splits for case in nnunet(root, fold=1).cases}
    assert [case_id for case_id, found in splits.items() if found == ("test",)] == ids[:2]
    assert sum(found == ("val",) for found in splits.values()) == 2
    assert sum("train" in found for found in splits.values()) == 6
    assert splits["chest_90"] == ()
    with pytest.raises(UserError, match=r"there is no fold 2: .* has 2"):
        nnunet(root, fold=2)


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        (None, "copy it from nnU-Net's preprocessed folder"),
        ([{"train": ["chest_00"], "val": ["elsewhere"]}], "should have lists of cases of imagesTr"),
        ([{"train": ["chest_00", "chest_01"], "val": ["chest_01"]}], "in both train and val of fold 0"),
        ([3], "should have lists of cases"),
        ({}, "has no"),
    ],
)
def test_invalid_folds_are_refused(root: Path, folds: Any, message: str) -> None:
    if folds is not None:
        (root / "splits_final.json").write_text(json.dumps(folds), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        nnunet(root, fold=0)


def test_individually_listed_files_are_read(root: Path) -> None:
    ending = ".nrrd" if (root / "labelsTr" / "chest_00.nrrd").is_file() else ".nii.gz"
    (root / "labelsTr").rename(root / "maps")
    files = {
        f"case {number}": {
            "images": [f"imagesTr/chest_{number:02d}_0000{ending}"],
            "label": f"maps/chest_{number:02d}{ending}",
        }
        for number in range(7)
    }
    change(root, dataset=files)
    cases = {case.id: case for case in nnunet(root).cases}
    assert sorted(cases) == [*files, "chest_90"]
    assert cases["case 3"].image == root / "imagesTr" / f"chest_03_0000{ending}"
    assert cases["case 3"].label == root / "maps" / f"chest_03{ending}"
    assert cases["case 3"].label.is_file()
    assert cases["case 3"].splits and not cases["chest_90"].splits


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"dataset": ["a"]}, "should have a dict of dataset"),
        ({"dataset": {"a": {"images": ["a", "b"], "label": "c"}}}, "an image of one channel and a label map for a"),
        ({"dataset": {"a": {"images": ["a"]}}}, "an image of one channel and a label map for a"),
        ({"dataset": {"a": {"images": ["../a"], "label": "c"}}}, "names '../a'; it should name files below"),
        ({"dataset": {"a\0": {"images": ["a"], "label": "c"}}}, "which is no file name: rename it"),
        ({"labels": {"background": 0, "liver": 1, "tumour": 1}}, "gives two labels one value"),
        ({"channel_names": {"0": "CT", "1": "PET"}}, r"has 2 channels per image \(CT, PET\): give --channels all, or"),
        ({"labels": {"background": 0, "all": [1, 2]}}, "has regions of several labels"),
        ({"labels": []}, "should have a dict of labels"),
        ({"file_ending": 3}, "should have a file_ending"),
        ({"file_ending": ".png"}, "it should have imagesTr/CASE_0000.png"),
    ],
)
def test_malformed_listings_are_refused(root: Path, parts: dict[str, Any], message: str) -> None:
    change(root, **parts)
    with pytest.raises(UserError, match=message) as caught:
        nnunet(root)
    assert "\n" not in str(caught.value)


def test_two_files_of_one_case_are_refused(root: Path) -> None:
    first = sorted((root / "imagesTr").iterdir())[0]
    twin = first.with_name(first.name.upper().replace("CHEST", "chest"))
    twin.write_bytes(first.read_bytes())
    with pytest.raises(UserError, match=f"holds both imagesTr/{twin.name} and imagesTr/{first.name} for chest_00"):
        nnunet(root)
