from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gvsl.cli import main
from gvsl.datasets.stoic import stoic
from gvsl.errors import UserError
from gvsl.io import Volume
from gvsl.store import Store, describe

SHAPE = (40, 36, 24)


@pytest.fixture
def root(tmp_path: Path, write_volume: Callable[[Path, Volume], Path]) -> Path:
    """A miniature release: twelve chests with two lungs, and a scan that is missing from the table."""
    root = tmp_path / "stoic2021-training"
    draw = np.random.default_rng(0)
    for number in range(1, 14):
        array = draw.normal(40, 20, SHAPE)
        array[[0, 1, -1, -2]] = array[:, [0, 1, -1, -2]] = -1000
        for side in (slice(8, 17), slice(22, 32)):
            array[side, 8:28, 4:20] = -850 + draw.normal(0, 20, array[side, 8:28, 4:20].shape)
        write_volume(root / "data" / "mha" / f"{number}.mha", Volume(array.astype(np.int16), np.diag([1, 1, 1.5, 1])))
    rows = "".join(f"{number},{number % 2},0\n" for number in range(1, 13))
    (root / "metadata").mkdir()
    (root / "metadata" / "reference.csv").write_text(f"PatientID,probCOVID,probSevere\n{rows}", encoding="utf-8")
    return root


def argv(root: Path, store: Path) -> list[str]:
    return ["prepare", str(root), str(store), "--dataset", "stoic", "--preset", "chest-ct", "--processes", "1"]


def test_it_becomes_a_store_of_lungs_and_classes(root: Path, tmp_path: Path) -> None:
    assert main(argv(root, tmp_path / "store")) == 0
    store = Store.open(tmp_path / "store")
    assert store.refused == ()
    assert {case_id: case.target for case_id, case in store.cases.items()} == {
        **{str(number): number % 2 for number in range(1, 13)},
        "13": None,
    }
    counts = [len(store.split(name)) for name in ("train", "val", "test")]
    assert counts == [6, 2, 4]
    assert store.cases["13"].splits == ()


def test_supplied_masks_define_the_crop(
    root: Path, tmp_path: Path, write_volume: Callable[[Path, Volume], Path]
) -> None:
    assert main([*argv(root, tmp_path / "found"), "--margin", "0"]) == 0
    mask = np.zeros(SHAPE, np.uint8)
    mask[10:20, 10:20, 6:12] = 2
    affine = np.diag([1, 1, 1.5, 1])
    write_volume(root / "lungs" / "1.nii.gz", Volume(mask, affine))
    assert main([*argv(root, tmp_path / "given"), "--margin", "0"]) == 0
    found, given = (Store.open(tmp_path / name) for name in ("found", "given"))
    assert found.cases["2"].shape == given.cases["2"].shape
    assert found.cases["1"].shape == found.cases["2"].shape
    # One more voxel on each side, as with a searched region.
    assert given.cases["1"].shape == (12, 12, 12)
    # A changed mask is a changed case.
    mask[10:25, 10:20, 6:12] = 1
    write_volume(root / "lungs" / "1.nii.gz", Volume(mask, affine))
    assert main([*argv(root, tmp_path / "given"), "--margin", "0"]) == 0
    assert Store.open(tmp_path / "given").cases["1"].shape == (17, 12, 12)


def test_the_number_of_supplied_masks_is_reported(
    root: Path, tmp_path: Path, write_volume: Callable[[Path, Volume], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[10:20, 10:20, 6:12] = 2
    given = Volume(mask, np.diag([1, 1, 1.5, 1]))
    for name in ("1.mha", "2.nrrd", "3.nii", "4.nii.gz"):
        write_volume(root / "lungs" / name, given)
    assert main([*argv(root, tmp_path / "store"), "--margin", "0"]) == 0
    assert "Lungs: 4 volumes cropped by a supplied mask, 9 by threshold" in capsys.readouterr().out
    store = Store.open(tmp_path / "store")
    assert "lungs     4 volumes cropped by a supplied mask, 9 by threshold" in describe(store).splitlines()
    assert {case_id for case_id, case in store.cases.items() if case.shape == (12, 12, 12)} == {"1", "2", "3", "4"}


def test_empty_masks_and_masks_without_a_scan_are_refused_by_name(
    root: Path, tmp_path: Path, write_volume: Callable[[Path, Volume], Path]
) -> None:
    mask = np.zeros(SHAPE, np.uint8)
    for name in ("1.mha", "77.nii.gz"):
        write_volume(root / "lungs" / name, Volume(mask, np.diag([1, 1, 1.5, 1])))
    assert main(argv(root, tmp_path / "store")) == 0
    store = Store.open(tmp_path / "store")
    assert store.refused == (
        ("data/mha/77.mha", "there is no such file"),
        ("lungs/1.mha", "is an empty lung mask; correct it, or remove it"),
    )
    assert {"1", "77"}.isdisjoint(store.cases)


def test_duplicate_masks_and_scans_are_refused_by_name(
    root: Path, write_volume: Callable[[Path, Volume], Path]
) -> None:
    mask = Volume(np.ones(SHAPE, np.uint8), np.diag([1, 1, 1.5, 1]))
    for name in ("5.mha", "5.nii.gz"):
        write_volume(root / "lungs" / name, mask)
    with pytest.raises(UserError, match=r"lungs/5\.mha and .*lungs/5\.nii\.gz are two masks of the id 5; remove one"):
        stoic(root)
    (root / "lungs" / "5.mha").unlink()
    scan = root / "data" / "mha" / "5.mha"
    copied = root / "data" / "more" / "mha" / "5.mha"
    copied.parent.mkdir(parents=True)
    copied.write_bytes(scan.read_bytes())
    with pytest.raises(UserError, match=r"data/mha/5\.mha and .*more/mha/5\.mha are two scans of the id 5; remove one"):
        stoic(root)


def test_the_splits_are_the_same_on_every_machine(root: Path) -> None:
    splits = {case.id: case.splits for case in stoic(root).cases}
    held_out = {name: {case_id for case_id, found in splits.items() if found == (name,)} for name in ("val", "test")}
    assert held_out == {"val": {"1", "12"}, "test": {"4", "6", "8", "10"}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PatientID,age\n1,3\n",
        "PatientID,probCOVID\n1,maybe\n",
        "PatientID,probCOVID\n1,2\n",
        "PatientID,probCOVID\n1,0.7\n",
        "PatientID,probCOVID\n1,nan\n",
    ],
)
def test_a_malformed_table_is_refused(root: Path, text: str) -> None:
    (root / "metadata" / "reference.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"reference.csv should (be a table|have 0 or 1)"):
        stoic(root)


def test_rows_of_a_case_that_disagree_are_refused(root: Path) -> None:
    path = root / "metadata" / "reference.csv"
    path.write_text("PatientID,probCOVID\n1,0\n1,1\n", encoding="utf-8")
    with pytest.raises(UserError, match="two rows of '1' that disagree"):
        stoic(root)
