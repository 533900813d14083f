"""Cases of one subject stay on one side of a split, and DICOM folders keep their ids."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gvsl.cli import main
from gvsl.datasets.decathlon import decathlon
from gvsl.datasets.folder import folder
from gvsl.datasets.nnunet import nnunet
from gvsl.datasets.splits import drawn, one_fold
from gvsl.errors import UserError
from gvsl.io import Volume

from ..io.test_dicom_series import STRUCTURES, write_object

WriteDicom = Callable[..., list[Path]]
SCAN = Volume(np.random.default_rng(0).integers(-900, 900, (6, 7, 8)).astype(np.int16), np.eye(4))
OTHER = Volume(SCAN.array[::-1].copy(), np.eye(4))


def image(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        draw = np.random.default_rng(list(path.as_posix().encode()))
        nibabel.Nifti1Image(draw.random((5, 6, 7), np.float32), np.eye(4)).to_filename(path)


def write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("sub-01/ses-01/anat/sub-01_ses-01_T1w", "sub-01/ses-02/anat/sub-01_ses-02_T1w"),
        ("sub-01_ses-01_T1w", "sub-01_ses-02_T1w"),
        ("patient001/patient001_frame01", "patient001/patient001_frame12"),
        ("patient001_frame01", "patient001_frame12"),
    ],
)
@pytest.mark.parametrize("sides", [("pretrain", "test"), ("train", "val"), ("val", "test")])
def test_one_subject_in_two_splits_is_refused(
    tmp_path: Path, one: str, two: str, sides: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    image(*(tmp_path / "images" / f"{name}.nii.gz" for name in (one, two, "else")))
    ids = [name.replace("/", "_") for name in (one, two)]
    write(tmp_path / "splits.json", {side: [name] for side, name in zip(sides, ids, strict=True)})
    with pytest.raises(UserError, match="has cases of one subject in training and held out") as caught:
        folder(tmp_path)
    assert f"{ids[0]} ({sides[0]}) and {ids[1]} ({sides[1]}); move them to one side, or give --allow-leakage" in str(
        caught.value
    )
    assert len(folder(tmp_path, allow_leakage=True).cases) == 3
    if sides == ("train", "val"):
        assert main(["prepare", str(tmp_path), str(tmp_path.parent / "store"), "--processes", "1"]) == 2
        assert "--allow-leakage" in capsys.readouterr().err


def test_subjects_of_other_folders_and_one_side_are_accepted(tmp_path: Path) -> None:
    names = ["site1/sub-01/a", "site2/sub-01/a", "site1/sub-02/a", "site1/sub-02/b", "sub-adults/c", "sub-adults/d"]
    image(*(tmp_path / "images" / f"{name}.nii.gz" for name in names))
    one, two, *rest, last = (name.replace("/", "_") for name in names)
    write(tmp_path / "splits.json", {"train": [one, *rest], "pretrain": [one, *rest], "test": [two, last]})
    splits = {case.id: case.splits for case in folder(tmp_path).cases}
    assert splits == dict.fromkeys([one, *rest], ("pretrain", "train")) | dict.fromkeys([two, last], ("test",))


def test_two_series_of_a_patient_are_one_subject(tmp_path: Path, write_dicom: WriteDicom) -> None:
    write_dicom(tmp_path / "images" / "a", SCAN, uid="1.2.3", PatientID="P1")
    write_dicom(tmp_path / "images" / "b", OTHER, uid="1.2.4", PatientID="P1")
    write(tmp_path / "splits.json", {"train": ["a"], "test": ["b"]})
    with pytest.raises(
        UserError, match=r"one subject in training and held out.*: a_1\.2\.3 \(train\) and b_1\.2\.4 \(test\)"
    ) as caught:
        folder(tmp_path)
    assert "P1" not in str(caught.value)
    write(tmp_path / "splits.json", {"train": ["a", "b"]})
    assert len(folder(tmp_path).cases) == 2


@given(st.lists(st.integers(0, 9), min_size=12, max_size=40), st.integers(0, 4))
def test_draws_keep_a_subject_on_one_side(subjects: list[int], fold: int) -> None:
    ids = [f"sub-{subject}_ses-{number}" for number, subject in enumerate(subjects)]
    known = {name: name.partition("_")[0] for name in ids}
    count = len(set(known.values()))
    draws = [drawn(ids, {"train": 3, "val": 1, "test": 1}, known)] if count >= 3 else []
    draws += [one_fold(ids, fold, subjects=known)] if count >= 5 else []
    for found in draws:
        assert found.keys() == set(ids)
        assert len({(known[name], splits) for name, splits in found.items()}) == count
        assert {splits[-1] for splits in found.values()} == {"train", "val", "test"}


def test_subjects_of_one_case_each_are_drawn_as_without(tmp_path: Path) -> None:
    ids = [f"sub-{number:02d}" for number in range(20)]
    known = {name: name for name in ids}
    assert drawn(ids, {"train": 3, "val": 1}, known) == drawn(ids, {"train": 3, "val": 1})
    assert one_fold(ids, 2, subjects=known) == one_fold(ids, 2)


def test_a_fold_that_divides_a_subject_is_refused(tmp_path: Path) -> None:
    ids = [f"patient{number:03d}_frame{frame}" for number in range(5) for frame in (1, 2)]
    image(*(tmp_path / "imagesTr" / f"{name}_0000.nii.gz" for name in ids))
    image(*(tmp_path / "labelsTr" / f"{name}.nii.gz" for name in ids))
    listing = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "heart": 1}, "file_ending": ".nii.gz"}
    write(tmp_path / "dataset.json", listing)
    cases = nnunet(tmp_path).cases
    assert len({(case.subject, case.splits) for case in cases}) == 5
    write(tmp_path / "splits_final.json", [{"train": ids[1:], "val": ids[:1]}])
    with pytest.raises(UserError, match="one subject in both train and val of fold 0: patient000; move"):
        nnunet(tmp_path, fold=0)
    assert len(nnunet(tmp_path, fold=0, allow_leakage=True).cases) == 10


def test_amos_has_labelled_validation_cases(tmp_path: Path) -> None:
    names = [f"amos_{number:04d}" for number in range(6)]
    listed = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names]
    held = [{"image": f"./imagesVa/{name}.nii.gz", "label": f"./labelsVa/{name}.nii.gz"} for name in ("v1", "v2")]
    listing = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen"}, "training": listed}
    write(tmp_path / "dataset.json", {**listing, "validation": held, "test": [{"image": "./imagesTs/t.nii.gz"}]})
    cases = {case.id: case for case in decathlon(tmp_path).cases}
    assert list(cases) == [*names, "v1", "v2", "t"]
    assert cases["v1"].label == tmp_path / "labelsVa" / "v1.nii.gz"
    assert [name for name, case in cases.items() if not case.splits] == ["t"]


def test_strays_rename_no_dicom_folder(tmp_path: Path, write_dicom: WriteDicom) -> None:
    for number, name in enumerate(("pat1", "pat2")):
        write_dicom(tmp_path / "images" / name, SCAN, uid=f"1.2.{number}")
        image(tmp_path / "labels" / f"{name}.nii.gz")
    write(tmp_path / "splits.json", {"train": ["pat1"], "test": ["pat2_1.2.1"]})  # the id with its UID is known too
    before = [(case.id, case.splits, case.label) for case in folder(tmp_path).cases]
    assert [(name, splits) for name, splits, _ in before] == [
        ("pat1_1.2.0", ("train",)),
        ("pat2_1.2.1", ("test",)),
    ]
    for path in ("pat1/RS.dcm", "pat1/DIRFILE", "SR1", "DICOMDIR"):
        write_object(tmp_path / "images" / path, STRUCTURES, SOPClassUID=STRUCTURES, SeriesInstanceUID="1.9")
    (tmp_path / "images" / "pat2" / "broken.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    scout = Volume(SCAN.array[:, :, :1], SCAN.affine)
    for where in ("pat1", "."):
        write_dicom(tmp_path / "images" / where, scout, uid="1.2.5", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_dicom(tmp_path / "images" / "pat1 - copy", SCAN, uid="1.2.0")
    after = {case.id: (case.id, case.splits, case.label) for case in folder(tmp_path).cases}
    assert [after[name] for name in ("pat1_1.2.0", "pat2_1.2.1")] == before


def test_another_series_renames_none_and_splits_name_both(tmp_path: Path, write_dicom: WriteDicom) -> None:
    write_dicom(tmp_path / "images" / "pat", SCAN, uid="1.2.3")
    write_dicom(tmp_path / "images" / "other", OTHER, uid="1.2.9")
    write(tmp_path / "splits.json", {"train": ["pat"], "test": ["other"]})
    splits = {case.id: case.splits for case in folder(tmp_path).cases}
    assert splits == {"pat_1.2.3": ("train",), "other_1.2.9": ("test",)}
    for path in write_dicom(tmp_path / "incoming", OTHER, uid="1.2.1"):
        path.rename(tmp_path / "images" / "pat" / f"later-{path.name}")
    write_dicom(tmp_path / "images" / "pat" / "deeper", OTHER, uid="1.2.5")
    splits |= {"pat_1.2.1": ("train",), "pat_deeper_1.2.5": ()}
    assert {case.id: case.splits for case in folder(tmp_path).cases} == splits


def test_a_label_map_finds_its_series_by_grid(tmp_path: Path, write_dicom: WriteDicom) -> None:
    write_dicom(tmp_path / "images" / "pat", SCAN, uid="1.2.3")
    write_dicom(tmp_path / "images" / "pat", Volume(SCAN.array, np.diag([1, 1, 2, 1])), uid="1.2.4")
    (tmp_path / "labels").mkdir()
    found = np.zeros((6, 7, 8), np.uint8)
    found[2:4, 2:4, 2:4] = 1
    nibabel.Nifti1Image(found, np.diag([1, 1, 2, 1])).to_filename(tmp_path / "labels" / "pat.nii.gz")
    assert {case.id: case.label is not None for case in folder(tmp_path).cases} == {
        "pat_1.2.3": False,
        "pat_1.2.4": True,
    }
