import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from gvsl.datasets import DATASETS, folder
from gvsl.errors import UserError
from gvsl.io import Volume
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
    path.write_text(json.dumps(content), encoding="utf-8")


def test_it_is_in_the_dictionary() -> None:
    assert DATASETS["folder"] is folder


def test_a_flat_folder_is_all_for_pretraining(tmp_path: Path) -> None:
    touch(tmp_path / "b.nii", tmp_path / "a.nii.gz", tmp_path / ".hidden.nii.gz")
    (tmp_path / "notes.txt").write_text("not a volume", encoding="utf-8")
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
    (root / "splits.json").write_text('{"train": [', encoding="utf-8")
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
    (root / "images" / "d.mgz").write_text("MGZ\n" * 99, encoding="utf-8")
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
    rows = [json.loads(line) for line in (root / "store" / "cases.jsonl").read_text(encoding="utf-8").splitlines()]
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


SCAN = Volume(np.random.default_rng(0).integers(0, 900, (6, 7, 8)).astype(np.int16), np.eye(4))


def test_every_format_becomes_a_case(
    tmp_path: Path, write_volume: Callable[[Path, Volume], Path], write_dicom: Callable[..., list[Path]]
) -> None:
    for name in ("a.nii", "b.nii.gz", "c.hdr", "d.nrrd", "e.nhdr", "f.mha", "g.mhd"):
        write_volume(tmp_path / "images" / name, SCAN)
    write_dicom(tmp_path / "images" / "sub" / "h", SCAN, uid="1.2.3")
    write_dicom(tmp_path / "images" / "sub" / "deeper" / "i", SCAN, uid="1.2.4")
    write_volume(tmp_path / "labels" / "sub_h.nrrd", SCAN)
    write(tmp_path / "splits.json", {"pretrain": ["a", "sub_h"], "test": ["g"]})
    cases = {case.id: case for case in folder(tmp_path).cases}
    assert list(cases) == [*"abcdefg", "sub_deeper_i", "sub_h"]  # the folders below images, joined
    assert cases["sub_h"].image == tmp_path / "images" / "sub" / "h"
    assert cases["sub_h"].label == tmp_path / "labels" / "sub_h.nrrd"
    assert cases["sub_h"].splits == ("pretrain",)
    assert cases["sub_h"].parts == ()


def test_series_of_one_folder_are_cases_of_their_own(tmp_path: Path, write_dicom: Callable[..., list[Path]]) -> None:
    one = write_dicom(tmp_path / "patient", SCAN, uid="1.2.3")
    write_dicom(tmp_path / "patient", Volume(SCAN.array[::-1], SCAN.affine), uid="1.2.4")
    scout = Volume(SCAN.array[:, :, :1], SCAN.affine)
    write_dicom(tmp_path / "patient", scout, uid="1.2.5", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_dicom(tmp_path / "other", scout, uid="1.2.6", SeriesDescription="one")
    (tmp_path / "other" / "readme.txt").write_text("no image", encoding="utf-8")
    (tmp_path / "other" / "odd.dcm").write_text("no image either", encoding="utf-8")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "a.dcm").write_bytes(one[0].read_bytes())
    cases = {case.id: case for case in folder(tmp_path).cases}
    assert list(cases) == ["other", "patient_1.2.3", "patient_1.2.4", "patient_1.2.5", "other_odd.dcm"]
    assert sorted(cases["patient_1.2.3"].parts) == sorted(path.name for path in one)
    store = prepare(list(cases.values()), tmp_path / "store", PRESETS["none"], source="here")
    assert list(store.cases) == ["patient_1.2.3", "patient_1.2.4"]
    refused = dict(store.refused)
    assert refused.pop("other") == "is a single slice (series 4, 'one'); a volume is needed"
    assert refused.pop("other/odd.dcm") == "is neither NIfTI nor NRRD, MetaImage or DICOM"
    [(file, reason)] = refused.items()
    assert file.startswith("patient/")
    assert reason == "is a localiser, not a volume (series 4, 'thorax')"


def test_a_folder_may_be_one_series(tmp_path: Path, write_dicom: Callable[..., list[Path]]) -> None:
    write_dicom(tmp_path / "scan", SCAN)
    assert [(case.id, case.image) for case in folder(tmp_path / "scan").cases] == [("scan", tmp_path / "scan")]


def test_half_a_pair_is_refused_by_name(root: Path) -> None:
    nibabel.Nifti1Pair(np.ones((4, 5, 6), np.int16), np.eye(4)).to_filename(root / "images" / "p.hdr")
    (root / "images" / "p.hdr").unlink()
    store = prepare(folder(root).cases, root / "store", PRESETS["mr"], source="here")
    assert "images/p.img" in dict(store.refused)
