from pathlib import Path

import numpy as np

from gvsl.cli import main
from gvsl.datasets.candi import GROUPS, STRUCTURES, candi
from gvsl.datasets.tasks import check_labels
from gvsl.store import Store

from .conftest import AddCase

OTHERS = [5, 26, 30, 44, 58, 62]
"""Values of the release that are none of the 28."""


def release(root: Path, add_case: AddCase, count: int, values: list[int]) -> Path:
    for group in GROUPS:
        for number in range(1, count + 1):
            subject = f"{group}_{number:03d}"
            folder = root / "SchizBull_2008" / group / subject
            add_case(folder / f"{subject}_procimg.nii.gz", folder / f"{subject}_seg.nii.gz", values)
    return root


def test_there_are_28_structures_half_of_them_in_pairs() -> None:
    assert len(STRUCTURES) == 28
    sides = [name.partition(" ") for name in STRUCTURES.values()]
    left, right = ({name for side, _, name in sides if side == which} for which in ("left", "right"))
    assert left == right
    assert len(left) == 12


def test_it_becomes_a_store_and_other_values_are_background(tmp_path: Path, add_case: AddCase) -> None:
    root = release(tmp_path / "CANDI", add_case, 2, [*list(STRUCTURES)[:22], *OTHERS])
    words = ["prepare", str(root), str(tmp_path / "store"), "--dataset", "candi", "--preset", "brain-mr"]
    assert main([*words, "--spacing", "0.8", "--processes", "1"]) == 0
    store = Store.open(tmp_path / "store")
    assert (len(store.cases), store.refused) == (8, ())
    check_labels("sbm", store.label_names, "the store")
    assert store.label_names == STRUCTURES
    for case_id in store.cases:
        assert set(np.unique(store.label(case_id))) - {0} == set(list(STRUCTURES)[:22])


def test_the_splits_are_the_paper_s(tmp_path: Path) -> None:
    for number in range(103):  # what is in the files doesn't matter here
        folder = tmp_path / f"{GROUPS[number % 4]}_{number:03d}"
        folder.mkdir()
        for kind in ("procimg", "seg"):
            (folder / f"{folder.name}_{kind}.nii.gz").touch()
    cases = candi(tmp_path).cases
    assert [sum(name in case.splits for case in cases) for name in ("train", "val", "test")] == [40, 20, 43]
    assert all(case.label is not None and case.label.is_file() for case in cases)
