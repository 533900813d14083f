import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from gvsl.datasets import DATASETS, folder
from gvsl.errors import UserError
from gvsl.store import PRESETS, prepare


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.Nifti1Image(np.random.default_rng(0).random((5, 6, 7), np.float32), np.eye(4)).to_filename(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three images, two of them with labels."""
    touch(*(tmp_path / "images" / f"{name}.nii.gz" for name in "abc"))
    touch(*(tmp_path / "labels" / f"{name}.nii.gz" for name in "ab"))
    return tmp_path


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def test_it_is_in_the_dictionary() -> None:
    assert DATASETS["folder"] is folder


def test_a_flat_folder_is_all_for_pretraining(tmp_path: Path) -> None:
    touch(tmp_path / "b.nii", tmp_path / "a.nii.gz", tmp_path / ".hidden.nii.gz")
    (tmp_path / "notes.txt").write_text("not a volume")
    found = folder(tmp_path)
    assert [case.id for case in found.cases] == ["a", "b"]
    assert all(case.splits == ("pretrain",) and case.label is None for case in found.cases)
    assert found.label_names == {}
    assert found.name == tmp_path.name


def test_images_and_labels_go_together_by_name(root: Path) -> None:
    cases = {case.id: case for case in folder(root).cases}
    assert cases["a"].label == root / "labels" / "a.nii.gz"
    assert cases["c"].label is None
    assert cases["c"].splits == ("pretrain",)


def test_an_image_may_be_plain_and_its_label_zipped(tmp_path: Path) -> None:
    touch(tmp_path / "images" / "a.nii", tmp_path / "labels" / "a.nii.gz")
    assert folder(tmp_path).cases[0].label == tmp_path / "labels" / "a.nii.gz"


def test_splits_and_label_names_are_read(root: Path) -> None:
    write(root / "splits.json", {"pretrain": ["a"], "train": ["a"], "test": ["b"]})
    write(root / "labels.json", {"0": "background", "1": "anterior", "2": "posterior"})
    found = folder(root)
    assert {case.id: case.splits for case in found.cases} == {"a": ("pretrain", "train"), "b": ("test",), "c": ()}
    assert found.label_names == {1: "anterior", 2: "posterior"}


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": ["a", "v", "w", "x", "y", "z"]}, "names cases in train that have no image: v, w, x and 2 more"),
        ({"holdout": ["a"]}, "has a split 'holdout'; the splits are pretrain, train, val, test"),
        ({"pretrain": ["a"], "test": ["a"]}, "has cases of test in pretrain or train too: a"),
        ({"train": ["a"], "val": ["a"]}, "has cases of val in pretrain or train too: a"),
        ({"val": ["a"], "test": ["a"]}, "has cases in both val and test: a"),
        (["a"], "must hold lists of ids by split"),
        ({"train": "a"}, "must hold lists of ids by split"),
        ({"train": [1]}, "must hold lists of ids by split"),
    ],
)
def test_splits_that_can_not_be_meant_are_refused(root: Path, splits: Any, message: str) -> None:
    write(root / "splits.json", splits)
    with pytest.raises(UserError, match=message):
        folder(root)


@pytest.mark.parametrize("names", [["a"], {"one": "a"}, {"1": 5}, {"1": ""}])
def test_label_names_that_are_none_are_refused(root: Path, names: Any) -> None:
    write(root / "labels.json", names)
    with pytest.raises(UserError, match="must name label values"):
        folder(root)


def test_broken_json_is_one_line(root: Path) -> None:
    (root / "splits.json").write_text('{"train": [')
    with pytest.raises(UserError, match=r"splits\.json can't be read as JSON") as caught:
        folder(root)
    assert "\n" not in str(caught.value)


def test_an_empty_folder_is_the_user_s_mistake(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"holds no volume \(NIfTI, NRRD, MetaImage or DICOM\); name a folder of volumes"
    ):
        folder(tmp_path)


def test_a_missing_folder_is_the_user_s_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        folder(tmp_path / "nowhere")


def test_files_further_down_are_pointed_at(tmp_path: Path) -> None:
    touch(tmp_path / "imagesTr" / "a.nii.gz")
    with pytest.raises(UserError, match="imagesTr does; name that folder"):
        folder(tmp_path)


def test_two_label_maps_of_one_name_are_refused(root: Path) -> None:
    touch(root / "labels" / "a.nii")
    with pytest.raises(UserError, match=r"both a\.nii and a\.nii\.gz"):
        folder(root)


def test_other_formats_and_labels_without_an_image_are_refused_by_name(root: Path) -> None:
    (root / "images" / "d.mgz").write_text("MGZ\n" * 99)
    touch(root / "labels" / "e.nii.gz")
    (root / "labels" / "a.nii.gz").unlink()
    (root / "labels" / "b.nii.gz").unlink()
    store = prepare(folder(root).cases, root / "store", PRESETS["mr"], source="here")
    assert list(store.cases) == ["a", "b", "c"]
    assert store.refused == (
        ("images/d.mgz", "is neither NIfTI nor NRRD, MetaImage or DICOM"),
        ("images/e.nii.gz", "there is no such file"),
    )


def test_classes_are_read(root: Path) -> None:
    for path in (root / "labels").iterdir():
        path.unlink()
    write(root / "classes.json", {"a": 0, "c": 1})
    assert {case.id: case.target for case in folder(root).cases} == {"a": 0, "b": None, "c": 1}
    store = prepare(folder(root).cases, root / "store", PRESETS["mr"], source="here")
    assert {case.id: case.target for case in store.cases.values()} == {"a": 0, "b": None, "c": 1}


def test_a_store_without_classes_is_what_it_was(root: Path) -> None:
    for path in (root / "labels").iterdir():
        path.unlink()
    prepare(folder(root).cases, root / "store", PRESETS["mr"], source="here")
    rows = [json.loads(line) for line in (root / "store" / "cases.jsonl").read_text().splitlines()]
    assert not any("target" in row for row in rows)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"a": 2}, "must hold a class, 0 or 1, by id"),
        ({"a": True}, "must hold a class, 0 or 1, by id"),
        ({"a": "1"}, "must hold a class, 0 or 1, by id"),
        (["a"], "must hold a class, 0 or 1, by id"),
        ({"z": 1}, "names cases that have no image: z"),
    ],
)
def test_classes_that_can_not_be_meant_are_refused(root: Path, classes: Any, message: str) -> None:
    write(root / "classes.json", classes)
    with pytest.raises(UserError, match=message):
        folder(root)
