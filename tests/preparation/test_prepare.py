import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from gvsl.cases import Case
from gvsl.errors import UserError
from gvsl.preparation import PrepareSummary, prepare
from gvsl.preprocessing import PRESETS
from gvsl.store import Store, describe

MR = PRESETS["mr"]
MakeCase = Callable[..., Case]
MakeStore = Callable[..., Store]


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of every file in a folder by its relative path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rewrite(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> None:
    nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine).to_filename(path)


def spoil(case: Case, how: str) -> None:
    """Damage one of a case's files."""
    assert case.label is not None
    noise = np.random.default_rng(0).random((12, 14, 16)).astype(np.float32)
    if how == "truncated":
        case.image.write_bytes(case.image.read_bytes()[:1000])
    elif how == "nan":
        noise[0, 0, 0] = np.nan
        rewrite(case.image, noise)
    elif how == "2d":
        rewrite(case.image, noise[0])
    elif how == "4d":
        rewrite(case.image, np.stack([noise, noise], -1))
    elif how == "absurd":
        header = bytearray(gzip.decompress(case.image.read_bytes()))
        header[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
        case.image.write_bytes(gzip.compress(header))
    elif how == "label grid":
        rewrite(case.label, np.zeros((12, 14, 17), np.uint8))
    elif how == "label place":
        affine = np.eye(4)
        affine[2, 3] = 5
        rewrite(case.label, np.zeros((12, 14, 16), np.uint8), affine)
    elif how == "label values":
        rewrite(case.label, noise)
    elif how == "label gone":
        case.label.unlink()


REASONS = {
    "truncated": ("images", "is truncated: its compressed data ends early"),
    "nan": ("images", "1 of its 2688 voxels are NaN or infinite"),
    "2d": ("images", "is 2D (14 x 16); a volume is needed"),
    "4d": ("images", "is 4D (12 x 14 x 16 x 2); split it into 3D volumes first"),
    "absurd": ("images", "its header claims 30000 x 30000 x 30000 voxels; at most 1,073,741,824 can be taken"),
    "label grid": ("labels", "its grid is not that of its image: 12 x 14 x 17 instead of 12 x 14 x 16"),
    "label place": ("labels", "its grid is not that of its image: same shape, different position"),
    "label values": (
        "labels",
        "its labels are not all whole numbers: 2682 of 2688 are not, such as 0.500022; is it a probability map, or was "
        "it interpolated? Make it anew by nearest neighbour, or round it",
    ),
    "label gone": ("labels", "there is no such file"),
}


def test_hostile_files_are_refused_by_name(tmp_path: Path, make_case: MakeCase) -> None:
    cases = [make_case(f"bad {how}") for how in REASONS] + [make_case("good")]
    for case, how in zip(cases, REASONS, strict=False):
        spoil(case, how)
    done = []
    store = prepare(cases, tmp_path / "store", MR, source="here", progress=lambda _: lambda: done.append(1))
    assert list(store.cases) == ["good"]
    assert dict(store.refused) == {f"{folder}/bad {how}.nii.gz": reason for how, (folder, reason) in REASONS.items()}
    assert len(done) == len(cases)
    assert Store.open(tmp_path / "store").refused == store.refused
    assert {path.name for path in store.path.rglob("*.b2nd")} == {"good.b2nd"}


def test_no_usable_case_is_an_error_and_leaves_nothing(tmp_path: Path, make_case: MakeCase) -> None:
    case = make_case("a")
    spoil(case, "truncated")
    with pytest.raises(UserError, match=r"none of the 1 cases of here can be used; the first, .*a\.nii\.gz: is trunc"):
        prepare([case], tmp_path / "out" / "store", MR, source="here")
    assert not list((tmp_path / "out").iterdir())


def test_no_cases_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="here holds no cases"):
        prepare([], tmp_path / "store", MR, source="here")
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_left_alone(tmp_path: Path, make_case: MakeCase) -> None:
    (tmp_path / "store").mkdir()
    with pytest.raises(UserError, match="exists already"):
        prepare([make_case("a")], tmp_path / "store", MR, source="here")
    assert not list((tmp_path / "store").iterdir())


def test_an_unwritable_output_is_one_line(tmp_path: Path, make_case: MakeCase) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(UserError, match="can't be written: "):
        prepare([make_case("a")], tmp_path / "file" / "store", MR, source="here")


@pytest.mark.parametrize(("failure", "processes"), [(RuntimeError, 1), (KeyboardInterrupt, 1), (KeyboardInterrupt, 2)])
def test_finished_cases_are_kept_after_an_interruption(
    tmp_path: Path, make_case: MakeCase, processes: int, failure: type[BaseException]
) -> None:
    cases = [make_case(f"case{index}") for index in range(12)]
    out = tmp_path / "out" / "store"
    done = []

    def stop_at_three() -> None:
        done.append(1)
        if len(done) == 3:
            raise failure

    with pytest.raises(failure):
        prepare(cases, out, MR, source="here", processes=processes, progress=lambda _: stop_at_three)
    assert [path.name for path in out.parent.iterdir()] == ["store.partial"]
    work: list[PrepareSummary] = []
    counts: list[int] = []

    def counted(count: int) -> Callable[[], None]:
        counts.append(count)
        return done.clear

    prepare(cases, out, MR, source="here", progress=counted, on_done=work.append)
    assert (work[0].resumed, work[0].prepared) == (3, 9)
    assert counts == [9]
    prepare(cases, tmp_path / "undisturbed", MR, source="here")
    assert contents(out) == contents(tmp_path / "undisturbed")
    assert [path.name for path in out.parent.iterdir()] == ["store"]


def test_several_processes_make_the_same_store(tmp_path: Path, make_case: MakeCase) -> None:
    cases = [make_case(f"case{index}") for index in range(4)]
    spoil(cases[2], "nan")
    one = prepare(cases, tmp_path / "one", MR, source="here")
    two = prepare(cases[::-1], tmp_path / "two", MR, source="here", processes=2)
    assert one.hash == two.hash
    assert one.refused == two.refused
    assert list(one.cases) == list(two.cases)


def test_no_processes_is_an_error(tmp_path: Path, make_case: MakeCase) -> None:
    with pytest.raises(UserError, match="0 processes"):
        prepare([make_case("a")], tmp_path / "store", MR, source="here", processes=0)


def test_labels_and_geometry_of_the_right_grid_are_kept(tmp_path: Path, make_case: MakeCase) -> None:
    case = make_case("a")
    store = prepare([case], tmp_path / "store", replace(MR, crop="none"), source="here")
    assert case.label is not None
    label = nibabel.load(case.label)
    np.testing.assert_array_equal(store.label("a"), np.asanyarray(label.dataobj))
    np.testing.assert_array_equal(store.cases["a"].affine, label.affine)
    np.testing.assert_array_equal(store.cases["a"].source_affine, label.affine)
    assert store.cases["a"].source_shape == store.cases["a"].shape == label.shape
    assert store.cases["a"].label_values == (1, 2)
    assert store.cases["a"].source == "images/a.nii.gz"


def test_a_grid_that_differs_by_rounding_is_accepted(tmp_path: Path, make_case: MakeCase) -> None:
    case = make_case("a", spacing=(0.7, 0.7, 2))
    assert case.label is not None
    label = nibabel.load(case.label)
    rewrite(case.label, np.asanyarray(label.dataobj), label.affine + 1e-5)
    store = prepare([case], tmp_path / "store", MR, source="here")
    assert store.label("a").shape == store.image("a").shape


def test_one_volume_is_a_store(tmp_path: Path, make_case: MakeCase) -> None:
    store = prepare([make_case("a")], tmp_path / "store", MR, source="here")
    assert store.split("pretrain") == ["a"]


def test_ids_become_safe_file_names_and_duplicates_are_refused(tmp_path: Path, make_case: MakeCase) -> None:
    first, second = make_case("first"), make_case("second")
    cases = [replace(first, id="../../a b"), replace(second, id="../..:A B"), replace(second, id="x" * 300)]
    done = []
    store = prepare(cases, tmp_path / "store", MR, source="here", progress=lambda _: lambda: done.append(1))
    assert next(iter(store.cases)) == "_._.._a_b"
    assert len(list(store.cases)[1]) == 100
    assert store.refused == (
        ("images/second.nii.gz", "its id _._.._A_B is already used by images/first.nii.gz; rename one of them"),
    )
    assert len(done) == 2  # the duplicate was not read
    store.image("_._.._a_b")
    assert {path.name for path in tmp_path.iterdir()} == {"source", "store"}


def test_label_values_have_the_names_given_or_their_numbers(tmp_path: Path, make_store: MakeStore) -> None:
    assert make_store().label_names == {1: "block", 2: "rim"}
    image, label = (tmp_path / "source" / part / "a.nii.gz" for part in ("images", "labels"))
    store = prepare([Case("a", image, label)], tmp_path / "unnamed", MR, source="source")
    assert store.label_names == {1: "label 1", 2: "label 2"}


def test_the_manifest_contains_no_local_path(tmp_path: Path, make_store: MakeStore) -> None:
    text = (make_store().path / "manifest.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert json.loads(text)["source"] == "source"


def test_preparing_needs_no_torch() -> None:
    code = "import sys, gvsl.store, gvsl.io, gvsl.datasets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_pipe_is_refused_and_never_opened(tmp_path: Path, make_case: MakeCase) -> None:
    image, label, voxels = make_case("image"), make_case("label"), make_case("voxels")
    make_case("sound")
    assert label.label is not None
    nibabel.Nifti1Pair(np.ones((4, 5, 6), np.int16), np.eye(4)).to_filename(voxels.image.with_name("voxels.hdr"))
    voxels.image.unlink()
    for pipe in (image.image, label.label, voxels.image.with_name("voxels.img")):
        pipe.unlink()
        os.mkfifo(pipe)
    run = "import sys; from gvsl.cli import main; sys.exit(main(sys.argv[1:]))"
    argv = [sys.executable, "-c", run, "prepare", str(tmp_path / "source"), str(tmp_path / "store"), "--processes", "1"]
    subprocess.run(argv, capture_output=True, check=True, timeout=60)
    store = Store.open(tmp_path / "store")
    assert list(store.cases) == ["sound"]
    reasons = {Path(file).name: reason for file, reason in store.refused}
    assert reasons.keys() == {image.image.name, label.label.name, "voxels.hdr"}
    assert len(store.refused) == 3
    for file in (image.image, label.label):
        assert reasons[file.name].startswith("is neither a file nor a folder")
    assert reasons["voxels.hdr"].startswith("is the header of a pair, and its voxel file")


def test_a_label_map_is_refused_for_values_that_nobody_named(tmp_path: Path, make_case: MakeCase) -> None:
    cases = [make_case("a"), make_case("b")]
    label = np.zeros((12, 14, 16), np.int16)
    label[4, 5, 6:9] = [1, 255, -1]
    assert cases[0].label is not None
    rewrite(cases[0].label, label)

    def refused(name: str, names: dict[int, str]) -> dict[str, str]:
        return dict(prepare(cases, tmp_path / name, MR, label_names=names, source="here").refused)

    assert list(refused("named", {1: "a", 2: "b"})) == ["labels/a.nii.gz"]
    reason = refused("named", {1: "a", 2: "b"})["labels/a.nii.gz"]
    assert "values without a name: -1 (1 voxels), 255 (1 voxels)" in reason
    assert "values below 0: -1 (1 voxels)" in refused("bare", {})["labels/a.nii.gz"]
    assert refused("all", {1: "a", 2: "b", 255: "ignore", -1: "ignore"}) == {}
    store = Store.open(tmp_path / "all")
    assert (store.label_names, store.ignored) == ({1: "a", 2: "b"}, (-1, 255))
    assert store.cases["a"].label_values == (-1, 1, 255)


def test_ignored_voxels_outside_the_crop_are_not_counted_as_lost(tmp_path: Path, make_case: MakeCase) -> None:
    case = make_case("a")
    image = np.zeros((30, 30, 30), np.float32)
    image[12:20, 12:20, 12:20] = np.random.default_rng(0).random((8, 8, 8)) + 1
    label = np.full(image.shape, 255, np.uint8)
    label[14:18, 14:18, 14:18] = 1
    label[0, 0, 0] = 1
    assert case.label is not None
    rewrite(case.image, image)
    rewrite(case.label, label)
    store = prepare([case], tmp_path / "store", MR, label_names={1: "a", 255: "ignore"}, source="here")
    assert store.cases["a"].labels_cropped == 1
    assert set(np.unique(store.label("a"))) == {1, 255}


def test_each_axis_may_have_a_spacing_of_its_own(tmp_path: Path, make_case: MakeCase) -> None:
    spec = replace(PRESETS["none"], spacing=(0.5, 1.0, 2.0))
    store = prepare([make_case("a")], tmp_path / "store", spec, source="here")
    case = store.cases["a"]
    assert case.shape == (24, 14, 8)
    assert Store.open(tmp_path / "store").preprocessing == spec
    np.testing.assert_allclose(np.diag(case.affine)[:3], (0.5, 1, 2))
    labelled = np.count_nonzero(store.label("a"))
    assert labelled == pytest.approx(5**3, rel=0.35)  # 0.5 x 1 x 2 is a cubic millimetre, too
    assert "RAS, 0.5 1 2 mm" in describe(store)


def test_the_hash_of_a_store_is_what_it_always_was(tmp_path: Path) -> None:
    ramp = np.arange(8 * 9 * 10, dtype=np.float32).reshape(8, 9, 10) % 97
    rewrite(tmp_path / "a.nii", ramp)
    rewrite(tmp_path / "b.nii", (ramp > 50).astype(np.uint8))
    cases = [Case("a", tmp_path / "a.nii", tmp_path / "b.nii", ("train",))]
    spec = replace(PRESETS["none"], spacing=1.0)
    store = prepare(cases, tmp_path / "store", spec, label_names={1: "x"}, source="here")
    assert store.hash == "b31562db574d2eae80610e1dfc745be5f461238a5d230c7646c626a300f02f45"
    same = replace(spec, spacing=(1.0, 1.0, 1.0))
    assert prepare(cases, tmp_path / "store", same, label_names={1: "x"}, source="here").hash == store.hash


def test_rows_keep_their_form_which_stores_hashes_depend_on(make_case: MakeCase, tmp_path: Path) -> None:
    prepare([make_case("a")], tmp_path / "store", MR, source="here")
    (line,) = (tmp_path / "store" / "cases.jsonl").read_text(encoding="utf-8").splitlines()
    row = json.loads(line)
    assert line == json.dumps(row, separators=(",", ":"))
    assert list(row) == ["id", "splits", "shape", "labels", "labels_cropped", "geometry", "hash", "content", "source"]


def test_a_structure_of_which_no_voxel_is_left_is_told(tmp_path: Path, make_case: MakeCase) -> None:
    """A vessel of one voxel's width vanishes between the points of a grid that is twice as coarse."""
    case = make_case("a")
    label = np.zeros((12, 14, 16), np.uint8)
    label[3:8, 4:9, 5:10] = 1
    label[1:11, 11, 11] = 2
    label[10, 2, 2] = 255
    assert case.label is not None
    rewrite(case.label, label)
    names = {1: "block", 2: "vessel", 255: "ignore"}
    spec = replace(PRESETS["none"], spacing=2.0)
    (row,) = prepare([case], tmp_path / "coarse", spec, label_names=names, source="here").cases.values()
    assert row.label_values == (1,)
    assert [note for note in row.notes if "label" in note] == [
        "its label map: nothing is left of label 2 (10 voxels) at 2 x 2 x 2 mm: it is thinner than these voxels, or "
        "was cropped away"
    ]
    (row,) = prepare([case], tmp_path / "fine", PRESETS["none"], label_names=names, source="here").cases.values()
    assert not any("label" in note for note in row.notes)


def test_the_name_of_a_source_that_is_no_unicode_is_escaped(tmp_path: Path, make_case: MakeCase) -> None:
    store = prepare([make_case("a")], tmp_path / "store", MR, source=os.fsdecode(b"b\xff"))
    assert store.source == r"b\udcff"


def test_maps_of_one_structure_in_two_files_are_refused(tmp_path: Path, make_case: MakeCase) -> None:
    case = make_case("a")
    maps = tmp_path / "maps"
    maps.mkdir()
    for name in ("liver.nii", "liver.nii.gz"):
        rewrite(maps / name, np.ones((12, 14, 16), np.uint8))
    refused = prepare([replace(case, label=maps), make_case("b")], tmp_path / "store", MR, source="here").refused
    assert [reason for _, reason in refused] == [
        "holds both liver.nii and liver.nii.gz for one structure; remove one of them"
    ]
