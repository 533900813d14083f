from pathlib import Path

import numpy as np
import pytest

from gvsl.cli import main
from gvsl.datasets.candi import GROUPS, STRUCTURES, candi
from gvsl.datasets.tasks import check_labels
from gvsl.errors import UserError
from gvsl.store import Store

from .conftest import AddCase

OTHERS = [5, 26, 30, 44, 58, 62]
"""Label values of the release that are not among the structures."""


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
    argv = ["prepare", str(root), str(tmp_path / "store"), "--dataset", "candi", "--preset", "brain-mr"]
    assert main([*argv, "--spacing", "0.8", "--processes", "1"]) == 0
    store = Store.open(tmp_path / "store")
    assert (len(store.cases), store.refused) == (8, ())
    check_labels("sbm", store.label_names, "the store")
    assert store.label_names == STRUCTURES
    for case_id in store.cases:
        assert set(np.unique(store.label(case_id))) - {0} == set(list(STRUCTURES)[:22])


@pytest.fixture
def names(tmp_path: Path) -> Path:
    """File names of a complete release, without content."""
    for number in range(103):
        folder = tmp_path / f"{GROUPS[number % 4]}_{number:03d}"
        folder.mkdir()
        for kind in ("procimg", "seg"):
            (folder / f"{folder.name}_{kind}.nii.gz").touch()
    return tmp_path


def test_the_splits_are_the_paper_s(names: Path) -> None:
    cases = candi(names).cases
    assert [sum(name in case.splits for case in cases) for name in ("train", "val", "test")] == [40, 20, 43]
    assert all(case.label is not None and case.label.is_file() for case in cases)


def test_the_splits_never_change(names: Path) -> None:
    validated = {case.id for case in candi(names).cases if case.splits == ("val",)}
    numbers = {
        "BPDwPsy": (4, 8, 12, 24, 60, 68, 72, 96),
        "BPDwoPsy": (9, 17, 37, 69),
        "HC": (6, 22, 62, 74, 78),
        "SS": (23, 43, 47),
    }
    assert validated == {f"{group}_{number:03d}" for group, found in numbers.items() for number in found}
    tested = sorted(case.id for case in candi(names, fold=0).cases if case.splits == ("test",))
    assert (len(tested), tested[:3]) == (21, ["BPDwPsy_016", "BPDwPsy_040", "BPDwPsy_060"])


def test_duplicate_images_are_refused(names: Path) -> None:
    (names / "HC_002" / "HC_002_procimg.nii").touch()
    files = r"HC_002/HC_002_procimg\.nii and HC_002/HC_002_procimg\.nii\.gz"
    with pytest.raises(UserError, match=f"holds both {files} for HC_002; remove one of them"):
        candi(names)
