from pathlib import Path

import numpy as np
import pytest

from gvsl.cli import main
from gvsl.datasets.asoca import asoca
from gvsl.datasets.tasks import check_labels
from gvsl.errors import UserError
from gvsl.store import Store

from .conftest import AddCase


def release(root: Path, add_case: AddCase, count: int) -> Path:
    for group in ("Normal", "Diseased"):
        for number in range(1, count + 1):
            image = root / group / "CTCA" / f"{group}_{number}.nrrd"
            add_case(image, root / group / "Annotations" / image.name, [1])
    return root


def test_forty_scans_are_split_as_in_the_paper(tmp_path: Path, add_case: AddCase) -> None:
    cases = asoca(release(tmp_path / "ASOCA", add_case, 20)).cases
    counts = {name: sum(name in case.splits for case in cases) for name in ("pretrain", "train", "val", "test")}
    assert counts == {"pretrain": 15, "train": 15, "val": 5, "test": 20}
    tested = [case.id for case in cases if "test" in case.splits]
    assert {case_id.partition("_")[0] for case_id in tested} == {"Normal", "Diseased"}


def test_the_splits_never_change(tmp_path: Path) -> None:
    for group in ("Normal", "Diseased"):
        for number in range(1, 21):
            path = tmp_path / group / "CTCA" / f"{group}_{number}.nrrd"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    cases = asoca(tmp_path).cases
    found = {name: sorted(case.id for case in cases if case.splits == (name,)) for name in ("val", "test")}
    numbers = {
        "val": {"Diseased": (1, 7), "Normal": (7, 8, 19)},
        "test": {
            "Diseased": (3, 4, 5, 6, 9, 14, 15, 16, 17, 18, 20),
            "Normal": (2, 3, 5, 6, 9, 10, 14, 18, 20),
        },
    }
    assert found == {
        name: sorted(f"{group}_{number}" for group, ids in groups.items() for number in ids)
        for name, groups in numbers.items()
    }


def test_duplicate_cases_are_refused(tmp_path: Path, add_case: AddCase) -> None:
    root = release(tmp_path / "ASOCA", add_case, 2)
    release(root / "again", add_case, 1)
    with pytest.raises(
        UserError, match=r"both Normal/CTCA/Normal_1\.nrrd and again/Normal/CTCA/Normal_1\.nrrd for Normal_1"
    ):
        asoca(root)


def test_it_becomes_a_store_of_one_structure(tmp_path: Path, add_case: AddCase) -> None:
    root = release(tmp_path / "ASOCA", add_case, 3)
    argv = ["prepare", str(root), str(tmp_path / "store"), "--dataset", "asoca", "--preset", "cardiac-ct"]
    assert main([*argv, "--processes", "1"]) == 0
    store = Store.open(tmp_path / "store")
    assert (len(store.cases), store.refused) == (6, ())
    check_labels("sac", store.label_names, "the store")
    assert store.label_names == {1: "coronary arteries"}
    assert all(set(np.unique(store.label(case_id))) == {0, 1} for case_id in store.cases)
