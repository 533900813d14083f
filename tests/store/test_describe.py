import os
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from gvsl.cases import Case
from gvsl.cli import main
from gvsl.datasets import folder
from gvsl.preparation import prepare
from gvsl.preprocessing import PRESETS
from gvsl.store import Store, describe

MakeStore = Callable[..., Store]


def test_contents_are_described(make_store: MakeStore) -> None:
    store = make_store()
    lines = describe(store).splitlines()
    assert f"store     {store.path}" in lines
    assert "volumes   3, 2 with labels" in lines
    assert "splits    pretrain 2, train 1, test 1" in lines
    assert "shapes    12 x 14 x 16 to 13 x 15 x 17 voxels" in lines
    assert "label     1 block, in 2 volumes" in lines
    assert "refused   none" in lines
    assert any(
        "RAS, 1 mm, percentiles 0.5 to 99.5 mapped to 0 to 1, foreground with a margin of 4" in line for line in lines
    )


def test_refused_files_are_listed_with_reasons(tmp_path: Path, make_case: Callable[..., Case]) -> None:
    bad = [make_case(f"bad{index}") for index in range(3)]
    for case in bad:
        case.image.write_bytes(b"")
    store = prepare([*bad, make_case("good", ())], tmp_path / "store", PRESETS["mr"], source="here")
    lines = describe(store).splitlines()
    assert lines[-4:] == ["refused   3", *[f"  images/bad{index}.nii.gz: is empty" for index in range(3)]]
    assert "splits    none; 1 in none" in lines


def test_unprintable_names_are_escaped(tmp_path: Path, make_case: Callable[..., Case]) -> None:
    good = make_case("good")
    for name in (b"new\nline.nii", b"x\xff.nii", "né.nii".encode()):
        (good.image.parent / os.fsdecode(name)).write_bytes(b"")
    (good.image.parent / os.fsdecode(b"\xfe.nii.gz")).write_bytes(good.image.read_bytes())
    store = prepare(folder(tmp_path / "source").cases, tmp_path / "store", PRESETS["mr"], source="here")
    assert list(store.cases) == ["_", "good"]
    lines = describe(store).splitlines()
    expected = [r"new\nline.nii", "né.nii", r"x\udcff.nii"]
    assert lines[-4:] == ["refused   3", *[f"  images/{name}: is empty" for name in expected]]


def test_a_ct_without_air_is_reported(
    tmp_path: Path, make_case: Callable[..., Case], capsys: pytest.CaptureFixture[str]
) -> None:
    make_case("offset")  # with values from about 60
    good = make_case("hounsfield")
    image = nibabel.load(good.image)
    array = image.get_fdata(dtype=np.float32) - 1100
    array[3:8, 4:9, 5:10] += 840
    nibabel.Nifti1Image(array, np.eye(4)).to_filename(good.image)
    for preset, noted in (("ct", True), ("mr", False), ("none", False)):
        argv = ["prepare", str(tmp_path / "source"), str(tmp_path / preset), "--preset", preset, "--processes", "1"]
        assert main(argv) == 0
        assert ("1 volumes have no voxel below -200 HU:" in capsys.readouterr().out) is noted
        notes = [line for line in describe(Store.open(tmp_path / preset)).splitlines() if line.startswith("note")]
        asked = "note      offset: no voxel lies below -200 HU; are its intensities offset by 1024?"
        assert notes == ([asked] if noted else [])
