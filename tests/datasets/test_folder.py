import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from gvsl.datasets import DATASETS, folder
from gvsl.errors import UserError
from gvsl.io import Volume
from gvsl.preparation import prepare
from gvsl.preprocessing import PRESETS


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.Nifti1Image(np.random.default_rng(0).random((5, 6, 7), np.float32), np.eye(4)).to_filename(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three images, two with labels."""
    touch(*(tmp_path / "images" / f"{name}.nii.gz" for name in "abc"))
    touch(*(tmp_path / "labels" / f"{name}.nii.gz" for name in "ab"))
    return tmp_path


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def test_the_dataset_is_registered() -> None:
    assert DATASETS["folder"] is folder


def test_a_flat_folder_is_all_for_pretraining(tmp_path: Path) -> None:
    touch(tmp_path / "b.nii", tmp_path / "a.nii.gz", tmp_path / ".hidden.nii.gz")
    (tmp_path / "notes.txt").write_text("not a volume", encoding="utf-8")
    found = folder(tmp_path)
    assert [case.id for case in found.cases] == ["a", "b"]
    assert all(case.splits == ("pretrain",) and case.label is None for case in found.cases)
    assert found.label_names == {}
    assert found.name == tmp_path.name


def test_images_and_labels_are_matched_by_name(root: Path) -> None:
    cases = {case.id: case for case in folder(root).cases}
    assert cases["a"].label == root / "labels" / "a.nii.gz"
    assert cases["c"].label is None
    assert cases["c"].splits == ("pretrain",)


def test_compression_may_differ_between_image_and_label(tmp_path: Path) -> None:
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
def test_invalid_splits_are_refused(root: Path, splits: Any, message: str) -> None:
    write(root / "splits.json", splits)
    with pytest.raises(UserError, match=message):
        folder(root)


@pytest.mark.parametrize("names", [["a"], {"one": "a"}, {"1": 5}, {"1": ""}, {"--1": "a"}, {"-": "a"}])
def test_invalid_label_names_are_refused(root: Path, names: Any) -> None:
    write(root / "labels.json", names)
    with pytest.raises(UserError, match="must name label values"):
        folder(root)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"1": "a", "01": "b"}, "names a label value twice"),
        ({"1": "Lung", "2": "lung"}, "differ only in case or spaces"),
    ],
)
def test_label_names_that_can_not_be_told_apart_are_refused(root: Path, names: dict[str, str], message: str) -> None:
    write(root / "labels.json", names)
    with pytest.raises(UserError, match=message):
        folder(root)


def test_values_may_share_a_name(root: Path) -> None:
    write(root / "labels.json", {"-1": "ignore", "255": "Ignore", "2": "rim", "3": "rim"})
    assert folder(root).label_names == {-1: "ignore", 255: "Ignore", 2: "rim", 3: "rim"}


def test_broken_json_is_one_line(root: Path) -> None:
    (root / "splits.json").write_text('{"train": [', encoding="utf-8")
    with pytest.raises(UserError, match=r"splits\.json can't be read as JSON") as caught:
        folder(root)
    assert "\n" not in str(caught.value)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"holds no volume \(NIfTI, NRRD, MetaImage, MGZ or DICOM\); name a folder of volumes"
    ):
        folder(tmp_path)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        folder(tmp_path / "nowhere")


def test_an_error_names_the_subfolder_with_volumes(tmp_path: Path) -> None:
    touch(tmp_path / "imagesTr" / "a.nii.gz")
    with pytest.raises(UserError, match=r"give --dataset decathlon or nnunet, or name .*imagesTr$"):
        folder(tmp_path)
    touch(tmp_path / "other" / "masks" / "a.nii.gz")
    with pytest.raises(UserError, match="masks does; name that folder"):
        folder(tmp_path / "other")


def test_label_maps_with_the_same_name_are_refused(root: Path) -> None:
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
        ("images/d.mgz", "is not NIfTI, NRRD, MetaImage, MGH or DICOM"),
        ("labels/e.nii.gz", "is a label map without an image; the nearest is a.nii.gz"),
    )


def test_classes_are_read(root: Path) -> None:
    for path in (root / "labels").iterdir():
        path.unlink()
    write(root / "classes.json", {"a": 0, "c": 1})
    assert {case.id: case.target for case in folder(root).cases} == {"a": 0, "b": None, "c": 1}
    store = prepare(folder(root).cases, root / "store", PRESETS["mr"], source="here")
    assert {case.id: case.target for case in store.cases.values()} == {"a": 0, "b": None, "c": 1}


def test_a_store_without_classes_has_no_targets(root: Path) -> None:
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
def test_invalid_classes_are_refused(root: Path, classes: Any, message: str) -> None:
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
    assert list(cases) == [
        *"abcdefg",
        "sub_deeper_i_1.2.4",
        "sub_h_1.2.3",
    ]  # after folders below images
    series = cases["sub_h_1.2.3"]  # its label map and splits.json may leave out the UID
    assert series.image == tmp_path / "images" / "sub" / "h"
    assert series.label == tmp_path / "labels" / "sub_h.nrrd"
    assert series.splits == ("pretrain",)
    assert series.parts == ()


def test_each_series_of_a_folder_is_a_case(tmp_path: Path, write_dicom: Callable[..., list[Path]]) -> None:
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
    assert list(cases) == ["other_1.2.6", "patient_1.2.3", "patient_1.2.4", "patient_1.2.5", "other_odd.dcm"]
    assert sorted(cases["patient_1.2.3"].parts) == sorted(path.name for path in one)
    store = prepare(list(cases.values()), tmp_path / "store", PRESETS["none"], source="here")
    assert list(store.cases) == ["patient_1.2.3", "patient_1.2.4"]
    refused = dict(store.refused)
    assert refused.pop("other") == "is a single slice (series 4, 'one'); a volume is needed"
    assert refused.pop("other/odd.dcm") == "is not NIfTI, NRRD, MetaImage, MGH or DICOM"
    [(file, reason)] = refused.items()
    assert file.startswith("patient/")
    assert reason == "is a localiser, not a volume (series 4, 'thorax')"


def test_a_folder_may_be_one_series(tmp_path: Path, write_dicom: Callable[..., list[Path]]) -> None:
    write_dicom(tmp_path / "scan", SCAN)
    assert [(case.id, case.image) for case in folder(tmp_path / "scan").cases] == [("scan_1.2.3", tmp_path / "scan")]


def test_half_a_pair_is_refused_by_name(root: Path) -> None:
    nibabel.Nifti1Pair(np.ones((4, 5, 6), np.int16), np.eye(4)).to_filename(root / "images" / "p.hdr")
    (root / "images" / "p.hdr").unlink()
    store = prepare(folder(root).cases, root / "store", PRESETS["mr"], source="here")
    assert "images/p.img" in dict(store.refused)


def test_files_at_any_depth_are_cases_named_after_their_folders(tmp_path: Path) -> None:
    touch(tmp_path / "images" / "a.nii.gz", tmp_path / "images" / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    touch(tmp_path / "images" / ".hidden" / "b.nii.gz", tmp_path / "labels" / "sub-01" / "anat" / "sub-01_T1w.nii")
    write(tmp_path / "splits.json", {"pretrain": ["a"], "test": ["sub-01_anat_sub-01_T1w"]})
    cases = {case.id: case for case in folder(tmp_path).cases}
    assert list(cases) == ["a", "sub-01_anat_sub-01_T1w"]
    assert cases["sub-01_anat_sub-01_T1w"].label == tmp_path / "labels" / "sub-01" / "anat" / "sub-01_T1w.nii"
    assert cases["sub-01_anat_sub-01_T1w"].splits == ("test",)


def test_labels_lie_beside_the_files_of_a_flat_folder_too(tmp_path: Path) -> None:
    touch(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", tmp_path / "labels" / "a.nii.gz")
    labels = {case.id: case.label for case in folder(tmp_path).cases}
    assert labels == {"a": tmp_path / "labels" / "a.nii.gz", "b": None}


@pytest.mark.parametrize(("one", "two"), [("a_b.nii.gz", "a/b.nii.gz"), ("a.nii", "a.nrrd"), ("x/a.mha", "x/A.nii")])
def test_the_second_file_with_an_id_is_refused(
    tmp_path: Path, write_volume: Callable[[Path, Volume], Path], one: str, two: str
) -> None:
    for name in (one, two):
        write_volume(tmp_path / name, SCAN)
    write_volume(tmp_path / "other.nii", SCAN)
    store = prepare(folder(tmp_path).cases, tmp_path / "store", PRESETS["none"], source="here")
    assert len(store.cases) == 2
    [(file, reason)] = store.refused
    assert {file, reason.partition("is already used by ")[2].partition(";")[0]} == {one, two}


def test_label_maps_with_the_same_id_are_refused(root: Path) -> None:
    touch(root / "labels" / "x_a.nii.gz", root / "labels" / "x" / "a.nii.gz")
    with pytest.raises(UserError, match=r"both x/a\.nii\.gz and x_a\.nii\.gz for x_a; remove one"):
        folder(root)


def test_label_maps_among_images_are_not_taken_for_images(tmp_path: Path) -> None:
    touch(*(tmp_path / "one" / name for name in ("a_image.nii.gz", "a_label.nii.gz")))
    touch(*(tmp_path / "two" / name for name in ("Annotations/deep/b.nii.gz", "b.nii.gz")))
    touch(tmp_path / "three" / "x_seg.nii")
    store = prepare(folder(tmp_path).cases, tmp_path / "store", PRESETS["none"], source="here")
    assert list(store.cases) == ["one_a_image", "three_x_seg", "two_b"]  # the third has no image beside it
    refused = dict(store.refused)
    assert list(refused) == ["one/a_label.nii.gz", "two/Annotations"]
    assert "is a label map by its name" in refused["one/a_label.nii.gz"]
    assert "holds label maps or results by its name (1 volumes)" in refused["two/Annotations"]


def test_unknown_files_are_listed(tmp_path: Path) -> None:
    touch(tmp_path / "a.nii.gz")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.mgz").write_text("MGZ\n" * 99, encoding="utf-8")
    for number in range(5):
        path = tmp_path / "scans" / f"IM{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(range(256)))
    (tmp_path / "scans" / "README").write_text("none of them is an image", encoding="utf-8")
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "fifo.nii")
    store = prepare(folder(tmp_path).cases, tmp_path / "store", PRESETS["none"], source="here")
    assert list(store.cases) == ["a"]
    assert dict(store.refused) == {
        "deep/b.mgz": "is not NIfTI, NRRD, MetaImage, MGH or DICOM",
        "fifo.nii": "is neither a file nor a folder",
        "pipe": "is neither a file nor a folder",
        "scans/IM0": "is neither a volume by its name nor DICOM, like 4 more files in its folder",
    }


def test_slices_without_a_series_are_listed_once(tmp_path: Path, write_dicom: Callable[..., list[Path]]) -> None:
    touch(tmp_path / "a.nii.gz")
    write_dicom(tmp_path / "scan", SCAN, SeriesInstanceUID="")
    store = prepare(folder(tmp_path).cases, tmp_path / "store", PRESETS["none"], source="here")
    [(file, reason)] = store.refused
    assert file == "scan"
    assert reason == "its 8 files have no SeriesInstanceUID"


def test_a_byte_order_mark_is_read_and_utf16_named(root: Path) -> None:
    splits = json.dumps({"pretrain": ["a"], "test": ["b"]})
    (root / "splits.json").write_text(splits, encoding="utf-8-sig")
    assert {case.id: case.splits for case in folder(root).cases} == {"a": ("pretrain",), "b": ("test",), "c": ()}
    (root / "splits.json").write_text(splits, encoding="utf-16")
    with pytest.raises(UserError, match=r"splits\.json can't be read as JSON: it is UTF-16 text: save it as UTF-8"):
        folder(root)
