import json
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import nibabel
import numpy as np
import pytest

from gvsl.cases import Case
from gvsl.cli import main
from gvsl.errors import UserError
from gvsl.io import Volume, read_volume, to_canonical
from gvsl.preparation import prepare
from gvsl.preprocessing import PRESETS
from gvsl.store import describe
from gvsl.store.audit import content_hash, duplicates, find_leakage
from gvsl.store.table import CaseTable, row_line

MakeCase = Callable[..., Case]
MR = PRESETS["mr"]


def copied(case: Case, name: str, splits: tuple[str, ...]) -> Case:
    """Copy an image under another name, with permuted axes, uncompressed, in another type."""
    image = nibabel.load(case.image)
    turns = np.array([[2, -1], [0, 1], [1, -1]])
    array = nibabel.apply_orientation(np.asarray(image.dataobj), turns)
    affine = image.affine @ nibabel.orientations.inv_ornt_aff(turns, image.shape)
    path = case.image.with_name(f"{name}.nii")
    nibabel.Nifti1Image(array.astype(np.float64), affine).to_filename(path)
    return replace(case, id=name, image=path, label=None, splits=splits)


def test_the_hash_covers_the_voxels_in_ras_order() -> None:
    array = np.random.default_rng(0).normal(size=(20, 5, 6)).astype(np.float32)
    expected = content_hash(Volume(array, np.eye(4)))
    for flips in product((1, -1), repeat=3):
        turns = np.stack([[1, 2, 0], flips], axis=1)
        affine = np.eye(4) @ nibabel.orientations.inv_ornt_aff(turns, array.shape)
        turned = Volume(nibabel.apply_orientation(array, turns), affine)
        assert content_hash(to_canonical(turned)) == expected
    assert content_hash(Volume(np.asfortranarray(array), np.eye(4))) == expected
    assert content_hash(Volume(array.astype(">f4"), np.eye(4))) == expected
    assert content_hash(Volume(array[::-1], np.eye(4))) != expected
    assert content_hash(Volume(array.reshape(20, 6, 5), np.eye(4))) != expected
    assert content_hash(Volume(np.where(array == array[19, 4, 5], 0, array), np.eye(4))) != expected


def test_negative_zero_hashes_as_zero() -> None:
    zeros = np.zeros((3, 3, 3), np.float32)
    assert content_hash(Volume(-zeros, np.eye(4))) == content_hash(Volume(zeros, np.eye(4)))


def test_duplicates_and_leakage() -> None:
    entries = [
        ("d", ("test",), "one"),
        ("a", ("pretrain", "train"), "one"),
        ("b", ("pretrain",), "one"),
        ("e", ("val",), "two"),
        ("f", ("test",), "two"),
        ("g", ("val",), "three"),
        ("h", ("val",), "three"),
        ("i", (), "four"),
        ("j", ("test",), "four"),
        ("k", ("pretrain",), ""),
        ("l", ("test",), ""),
    ]
    assert [[name for name, _, _ in group] for group in duplicates(entries)] == [
        ["a", "b", "d"],
        ["e", "f"],
        ["g", "h"],
        ["i", "j"],
    ]
    assert [(one[0], other[0]) for one, other in find_leakage(entries)] == [("a", "d"), ("b", "d"), ("e", "f")]


@pytest.mark.parametrize(
    ("splits", "held_out"),
    [(("pretrain",), "test"), (("pretrain",), "val"), (("train",), "test"), (("val",), "test"), (("test",), "val")],
)
def test_a_held_out_image_trained_on_under_another_name_is_refused(
    tmp_path: Path, make_case: MakeCase, splits: tuple[str, ...], held_out: str
) -> None:
    case = make_case("a", splits)
    cases = [case, make_case("b"), copied(case, "z", (held_out,))]
    with pytest.raises(UserError, match=r"trained on and held out, .*: .*[az] .* is [az] .*--allow-leakage") as caught:
        prepare(cases, tmp_path / "store", MR, source="here")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "store").exists()
    store = prepare(cases, tmp_path / "store", MR, source="here", allow_leakage=True)
    lines = describe(store).splitlines()
    assert "same      a, z: the same image" in lines
    assert sum(line.startswith("leakage   ") for line in lines) == 1


@pytest.mark.parametrize("splits", [("pretrain", "test"), ("train", "val"), ("val", "test")])
def test_a_case_in_conflicting_splits_is_refused_by_default(
    tmp_path: Path, make_case: MakeCase, splits: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    case = make_case("a", splits)
    cases = [case, make_case("b")]
    output = f"a is in {splits[0]}, {splits[1]}"
    with pytest.raises(UserError, match=rf"both val and test: {output}; take each out of one of the splits"):
        prepare(cases, tmp_path / "store", MR, source="here")
    source = case.image.parents[1]
    ids = {name: ["a", "b"] if name == "pretrain" else ["a"] for name in splits}
    (source / "splits.json").write_text(json.dumps(ids), encoding="utf-8")
    argv = ["prepare", str(source), str(tmp_path / "asked"), "--processes", "1"]
    assert main(argv) == 2
    assert "or give --allow-leakage" in capsys.readouterr().err.splitlines()[-1]
    assert main([*argv, "--allow-leakage"]) == 0
    assert main(["inspect", str(tmp_path / "asked")]) == 0
    assert f"leakage   {output}" in capsys.readouterr().out.splitlines()


def test_duplicates_without_leakage_are_listed(tmp_path: Path, make_case: MakeCase) -> None:
    case = make_case("a", ("pretrain", "train"))
    store = prepare([case, make_case("b"), copied(case, "z", ("pretrain",))], tmp_path / "store", MR, source="here")
    lines = describe(store).splitlines()
    assert "same      a, z: the same image" in lines
    assert not any(line.startswith("leakage") for line in lines)
    assert len({case.content for case in store.cases.values()}) == 2
    assert store.cases["a"].content == content_hash(to_canonical(read_volume(case.image)))


def test_duplicates_are_unknown_in_an_older_store(tmp_path: Path, make_case: MakeCase) -> None:
    store = prepare([make_case("a"), make_case("b")], tmp_path / "store", MR, source="here")
    rows = [json.loads(line) for line in store.table.lines.splitlines()]
    unknown = b"".join(row_line({name: value for name, value in row.items() if name != "content"}) for row in rows)
    before = replace(store, table=CaseTable.parse(unknown))
    assert {case.content for case in before.cases.values()} == {""}
    assert not any(line.startswith("same") for line in describe(before).splitlines())
