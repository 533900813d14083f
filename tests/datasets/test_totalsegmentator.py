import json
from collections.abc import Callable, Mapping
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from gvsl.cases import Dataset
from gvsl.cli import main
from gvsl.datasets.totalsegmentator import totalsegmentator
from gvsl.errors import UserError
from gvsl.preparation import prepare
from gvsl.preprocessing import PRESETS
from gvsl.store import Store

SHAPE = (22, 20, 18)
AFFINE = np.diag([1.0, 1.0, 1.0, 1.0])
ORGANS = {
    "spleen": (slice(2, 6), slice(2, 6), slice(2, 6)),
    "Liver": (slice(8, 14), slice(8, 14), slice(8, 14)),
    "aorta": (slice(0, 2), slice(10, 12), slice(4, 9)),
}


def box(where: tuple[slice, ...], value: int = 1) -> NDArray[np.uint8]:
    found = np.zeros(SHAPE, np.uint8)
    found[where] = value
    return found


def save(path: Path, array: NDArray[np.generic], affine: NDArray[np.float64] = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(array, affine).to_filename(path)


def subject(root: Path, name: str, organs: Mapping[str, tuple[slice, ...]] = ORGANS) -> None:
    seed = int(name[1:])
    save(root / name / "ct.nii.gz", np.random.default_rng(seed).integers(-900, 900, SHAPE).astype(np.int16))
    for organ, where in organs.items():
        save(root / name / "segmentations" / f"{organ}.nii.gz", box(where))


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    for number in range(5):
        subject(tmp_path / "source", f"s000{number}")
    return tmp_path / "source"


def stored(dataset: Dataset, out: Path) -> Store:
    return prepare(
        dataset.cases,
        out,
        PRESETS["none"],
        label_names=dataset.label_names,
        label_values=dataset.label_values,
        source=dataset.name,
    )


def test_binary_maps_become_one_label_map(cohort: Path, tmp_path: Path) -> None:
    subject(cohort, "s0009", {})
    dataset = totalsegmentator(cohort)
    assert dataset.label_names == {1: "aorta", 2: "Liver", 3: "spleen"}
    splits = {case.id: case.splits for case in dataset.cases}
    assert splits.pop("s0009") == ("pretrain",)
    assert sorted(splits.values()) == [*[("pretrain", "train")] * 3, ("test",), ("val",)]
    store = stored(dataset, tmp_path / "store")
    assert store.label_names == dataset.label_names
    expected = box(ORGANS["aorta"]) + box(ORGANS["Liver"], 2) + box(ORGANS["spleen"], 3)
    for case_id in splits:
        assert (store.label(case_id) == expected).all()
    assert not store.has_label("s0009")
    assert not store.refused


def test_the_command_line_and_the_table_of_splits(cohort: Path, tmp_path: Path) -> None:
    rows = ["image_id;age;split", "s0000;60;train", "s0001;61;val", "s0002;62;test", "s0003;63;train"]
    (cohort / "meta.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    words = ["--dataset", "totalsegmentator", "--preset", "none", "--processes", "1"]
    assert main(["prepare", str(cohort), str(tmp_path / "store"), *words]) == 0
    store = Store.open(tmp_path / "store")
    assert [store.split(name) for name in ("train", "val", "test")] == [["s0000", "s0003"], ["s0001"], ["s0002"]]
    folds = [totalsegmentator(cohort, fold=number) for number in range(5)]
    assert len({case.id for fold in folds for case in fold.cases if case.splits == ("test",)}) == 5
    (cohort / "meta.csv").write_text("image_id,split\ns0000,training\n", encoding="utf-8")
    with pytest.raises(UserError, match="should have train, val, test in the column split, not 'training'"):
        totalsegmentator(cohort)
    (cohort / "meta.csv").write_text("image_id,split\ns0000,train\ns0000,test\n", encoding="utf-8")
    with pytest.raises(UserError, match="has two rows of 's0000' that disagree"):
        totalsegmentator(cohort)


def test_labels_json_chooses_structures_and_values(cohort: Path, tmp_path: Path) -> None:
    (cohort / "labels.json").write_text(json.dumps({"5": "liver", "2": "spleen"}), encoding="utf-8")
    store = stored(totalsegmentator(cohort), tmp_path / "store")
    assert store.label_names == {2: "spleen", 5: "liver"}
    assert (store.label("s0000") == box(ORGANS["Liver"], 5) + box(ORGANS["spleen"], 2)).all()
    (cohort / "labels.json").write_text(json.dumps({"1": "liver", "2": "femur"}), encoding="utf-8")
    with pytest.raises(UserError, match=r"names femur; of these no subject has a map .* aorta, liver, spleen"):
        totalsegmentator(cohort)


def test_overlaps_are_told_and_the_higher_value_is_taken(cohort: Path, tmp_path: Path) -> None:
    save(cohort / "s0001" / "segmentations" / "spleen.nii.gz", box((slice(2, 10), slice(2, 10), slice(2, 10)), 255))
    store = stored(totalsegmentator(cohort), tmp_path / "store")
    shared = np.count_nonzero(box((slice(8, 10),) * 3))
    assert shared == np.count_nonzero(store.label("s0001")[8:10, 8:10, 8:10] == 3)
    [note] = [note for note in store.cases["s0001"].notes if "lie in other structures" in note]
    assert f"{shared} voxels of 'spleen' (3)" in note
    assert "the higher value is taken" in note


def many(root: Path) -> None:
    save(root / "segmentations" / "spleen.nii.gz", box(ORGANS["spleen"]) + box(ORGANS["Liver"], 2))


def shifted(root: Path) -> None:
    save(root / "segmentations" / "spleen.nii.gz", box(ORGANS["spleen"]), np.diag([1.0, 1.0, 2.0, 1.0]))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (many, "its map spleen.nii.gz has more than one value beside 0"),
        (shifted, "its map spleen.nii.gz "),
        (lambda root: (root / "segmentations" / "aorta.nii.gz").unlink(), "lacks the map of aorta in segmentations"),
        (lambda root: (root / "segmentations" / "aorta.nii.gz").write_bytes(b"no map"), "its map aorta.nii.gz is not"),
    ],
)
def test_maps_that_say_nothing_certain_are_refused(
    spoil: Callable[[Path], object], reason: str, cohort: Path, tmp_path: Path
) -> None:
    spoil(cohort / "s0002")
    store = stored(totalsegmentator(cohort), tmp_path / "store")
    assert list(store.cases) == ["s0000", "s0001", "s0003", "s0004"]
    assert reason in dict(store.refused).popitem()[1]


def test_other_values_are_not_mixed_into_a_store(cohort: Path, tmp_path: Path) -> None:
    stored(totalsegmentator(cohort), tmp_path / "store")
    subject(cohort, "s0005", {"adrenal": ORGANS["aorta"], **ORGANS})
    with pytest.raises(UserError, match="has other label values"):
        stored(totalsegmentator(cohort), tmp_path / "store")


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    subject(tmp_path, "s0000", {})
    with pytest.raises(UserError, match=r"it should hold s0000/ct\.nii\.gz"):
        totalsegmentator(tmp_path)
    with pytest.raises(UserError, match="it should hold"):
        totalsegmentator(tmp_path / "missing")
