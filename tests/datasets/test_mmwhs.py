from pathlib import Path

import numpy as np
import pytest

from gvsl.cli import main
from gvsl.datasets.mmwhs import STRUCTURES, mmwhs
from gvsl.datasets.tasks import check_labels
from gvsl.errors import UserError
from gvsl.io import read_label, to_canonical
from gvsl.store import Store

from .conftest import AddCase

VALUES = list(STRUCTURES)


@pytest.fixture
def root(tmp_path: Path, add_case: AddCase) -> Path:
    """A miniature release: twenty labelled and three unlabelled scans."""
    root = tmp_path / "MMWHS"
    for number in range(1001, 1021):
        stem = root / "ct_train" / f"ct_train_{number}"
        values = [421 if value == 420 and number == 1003 else value for value in VALUES]
        add_case(Path(f"{stem}_image.nii.gz"), Path(f"{stem}_label.nii.gz"), values)
    for number in (2001, 2002, 2040):
        add_case(root / "ct_test2" / f"ct_test_{number}_image.nii.gz", None, [])
    return root


def test_the_splits_are_the_paper_s(root: Path) -> None:
    cases = {case.id: case for case in mmwhs(root).cases}
    by_split = {name: {case.id for case in cases.values() if name in case.splits} for name in ("train", "val", "test")}
    assert [len(ids) for ids in by_split.values()] == [15, 5, 3]
    assert by_split["test"] == {"ct_test_2001", "ct_test_2002", "ct_test_2040"}
    assert {case.id for case in cases.values() if case.label is None} == by_split["test"]
    folds = [{case.id: case.splits for case in mmwhs(root, fold=number).cases} for number in range(5)]
    assert sorted(case for found in folds for case, splits in found.items() if splits == ("test",)) == sorted(
        by_split["train"] | by_split["val"]
    )


def test_the_splits_never_change(root: Path) -> None:
    for fold, name, numbers in ((None, "val", {1002, 1010, 1015, 1016, 1018}), (0, "test", {1001, 1005, 1017, 1018})):
        found = {case.id for case in mmwhs(root, fold).cases if case.splits == (name,)}
        assert found == {f"ct_train_{number}" for number in numbers}


def test_it_becomes_a_store_with_the_task_s_structures(root: Path, tmp_path: Path) -> None:
    argv = ["prepare", str(root), str(tmp_path / "store"), "--dataset", "mmwhs", "--preset", "cardiac-ct"]
    assert main([*argv, "--crop", "none", "--spacing", "0.8", "--processes", "1"]) == 0
    store = Store.open(tmp_path / "store")
    assert not store.refused
    check_labels("shc", store.label_names, "the store")
    for number in (1001, 1003):  # the second file has 421
        assert store.cases[f"ct_train_{number}"].label_values == tuple(VALUES)
    before = to_canonical(read_label(root / "ct_train" / "ct_train_1003_label.nii.gz"))
    left = store.label("ct_train_1003")
    assert np.isclose((left == 420).mean(), (before.array == 421).mean(), rtol=0.2)


def test_other_values_are_refused_by_name(root: Path, tmp_path: Path, add_case: AddCase) -> None:
    stem = root / "ct_train" / "ct_train_1007"
    add_case(Path(f"{stem}_image.nii.gz"), Path(f"{stem}_label.nii.gz"), [*VALUES, 7])
    argv = ["prepare", str(root), str(tmp_path / "store"), "--dataset", "mmwhs", "--preset", "ct", "--crop", "none"]
    assert main([*argv, "--processes", "1"]) == 0
    (refused,) = Store.open(tmp_path / "store").refused
    assert refused[0] == "ct_train/ct_train_1007_label.nii.gz"
    assert refused[1] == "has label values that the dataset doesn't list: 7"


def test_duplicate_cases_are_refused(root: Path, add_case: AddCase) -> None:
    add_case(root / "backup" / "ct_train_1001_image.nii.gz", root / "backup" / "ct_train_1001_label.nii.gz", VALUES)
    names = "backup/ct_train_1001_image.nii.gz and ct_train/ct_train_1001_image.nii.gz for ct_train_1001"
    with pytest.raises(UserError, match=f"holds both {names}; remove one of them"):
        mmwhs(root)


def test_an_error_names_the_expected_layout(tmp_path: Path) -> None:
    (tmp_path / "ct_train").mkdir()
    with pytest.raises(UserError, match=r"should hold ct_train/ct_train_1001_image.nii.gz"):
        mmwhs(tmp_path)
