"""`prepare` on an existing store."""

import gzip
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from gvsl.cases import Case
from gvsl.datasets import folder
from gvsl.errors import UserError
from gvsl.io import Volume
from gvsl.preparation import PrepareSummary, prepare
from gvsl.preparation.sources import Origin, case_stamps, stamp, unchanged
from gvsl.preparation.staging import SOURCES_NAME, partial_path
from gvsl.preprocessing import PRESETS
from gvsl.store import Store

from .helpers import contents, run

MR = PRESETS["mr"]
MakeCase = Callable[..., Case]


def brighten(path: Path) -> None:
    """Change a few voxels of a volume, and its modification time."""
    image = nibabel.load(path)
    array = image.get_fdata(dtype=np.float32)
    array[3:5, 4:9, 5:10] += 100
    nibabel.Nifti1Image(array, image.affine).to_filename(path)


def written(folder: Path) -> dict[str, int]:
    """Return the modification time of each array."""
    return {path.name: path.stat().st_mtime_ns for path in (folder / "images").iterdir()}


def test_nothing_is_done_without_changes(tmp_path: Path, make_case: MakeCase) -> None:
    cases = [make_case(name) for name in "abc"]
    first, work = run(cases, tmp_path / "store")
    assert work == PrepareSummary(prepared=3, changed=0, resumed=0, kept=0, refused=0, stale=(), gone=())
    before, times = contents(tmp_path / "store"), written(tmp_path / "store")
    again, work = run(cases, tmp_path / "store")
    assert work == PrepareSummary(prepared=0, changed=0, resumed=0, kept=3, refused=0, stale=(), gone=())
    assert contents(tmp_path / "store") == before
    assert written(tmp_path / "store") == times
    assert again.hash == first.hash
    assert not partial_path(tmp_path / "store").exists()


@pytest.mark.parametrize("scout", [True, False])
def test_a_store_keeps_the_ids_that_an_earlier_version_gave_series(
    tmp_path: Path, write_dicom: Callable[..., list[Path]], scout: bool
) -> None:
    generator = np.random.default_rng(0)
    volumes = [Volume(generator.integers(0, 900, (20, 18, 16)).astype(np.int16), np.eye(4)) for _ in range(3)]
    write_dicom(tmp_path / "in" / "pat", volumes[0], uid="1.2.3")
    write_dicom(tmp_path / "in" / "other", volumes[2], uid="1.2.9")
    if scout:
        flat = Volume(volumes[0].array[:, :, :1], np.eye(4))
        write_dicom(tmp_path / "in" / "pat", flat, uid="1.2.5", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    cases = [case for case in folder(tmp_path / "in").cases if case.former]
    earlier, _ = run([replace(case, id=case.former, parts=()) for case in cases[:1]], tmp_path / "store")
    assert list(earlier.cases) == ["other"]
    named = [replace(case, id=case.former) for case in cases]
    whole = {case.id: stamp(case.image, content=True) for case in named}  # of all that lies in the folder
    run(named, tmp_path / "store")
    lines = [Origin.parse(line) for line in (tmp_path / "store" / SOURCES_NAME).read_bytes().splitlines()]
    texts = [replace(line, image=whole[line.id]).line() for line in lines]
    (tmp_path / "store" / SOURCES_NAME).write_bytes(b"".join(texts))
    before = Store.open(tmp_path / "store")
    after, work = run(cases, tmp_path / "store")
    assert (work.kept, work.prepared, work.gone) == (2, 0, ())
    assert after.hash == before.hash
    write_dicom(tmp_path / "in" / "pat" / "new", volumes[1], uid="1.2.4")
    for path in (tmp_path / "in" / "pat" / "new").iterdir():
        path.rename(path.parent.parent / f"new-{path.name}")
    (tmp_path / "in" / "pat" / "new").rmdir()
    added = [case for case in folder(tmp_path / "in").cases if case.former]
    after, work = run(added, tmp_path / "store")
    assert list(after.cases) == ["other", "pat", "pat_1.2.4"]
    assert (work.prepared, work.changed, work.gone) == (1 + scout, scout, ())  # with a scout the stamp was of both
    assert (after.image("pat") == before.image("pat")).all()
    fresh, _ = run(added, tmp_path / "fresh")
    assert list(fresh.cases) == ["other_1.2.9", "pat_1.2.3", "pat_1.2.4"]


def test_only_missing_and_changed_cases_are_prepared(tmp_path: Path, make_case: MakeCase) -> None:
    out = tmp_path / "store"
    a, b, c, d, touched = (make_case(name) for name in ("a", "b", "c", "d", "touched"))
    bad = make_case("bad")
    bad.image.write_bytes(b"nothing")
    _, work = run([a, b, d, bad, touched], out)
    assert (work.prepared, work.refused) == (4, 1)
    times = written(out)

    brighten(b.image)
    os.utime(touched.image, (1, 1))  # another time with the same content
    (out / "labels" / "d.b2nd").unlink()
    store, work = run([a, b, c, d, bad, touched], out, processes=2)
    assert work == PrepareSummary(prepared=3, changed=2, resumed=0, kept=2, refused=1, stale=(), gone=())
    assert {name for name, when in written(out).items() if times.get(name) != when} == {"b.b2nd", "c.b2nd", "d.b2nd"}
    fresh, _ = run([a, b, c, d, bad, touched], tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")
    assert (store.hash, store.refused) == (fresh.hash, fresh.refused)


def test_splits_and_targets_are_updated_without_reading_voxels(tmp_path: Path, make_case: MakeCase) -> None:
    cases = [make_case(name) for name in "ab"]
    run(cases, tmp_path / "store")
    moved = [replace(cases[0], splits=("test",), target=1), cases[1]]
    store, work = run(moved, tmp_path / "store")
    assert (work.prepared, work.kept) == (0, 2)
    assert (store.split("test"), store.split("pretrain"), store.cases["a"].target) == (["a"], ["b"], 1)
    run(cases, tmp_path / "store")
    assert contents(tmp_path / "store") == contents(run(cases, tmp_path / "fresh")[0].path)


def test_nothing_is_removed(tmp_path: Path, make_case: MakeCase) -> None:
    a, b, c = (make_case(name) for name in "abc")
    before, _ = run([a, b, c], tmp_path / "store")
    b.image.write_bytes(b"nothing")
    store, work = run([b, c], tmp_path / "store")
    assert (work.stale, work.gone, work.kept, work.refused) == (("b",), ("a",), 1, 1)
    assert list(store.cases) == ["a", "b", "c"]
    assert store.hash == before.hash
    assert store.refused == (("images/b.nii.gz", "is not NIfTI, NRRD, MetaImage, MGH or DICOM"),)
    store.image("b")


def test_a_deleted_label_map_is_removed_from_the_store(tmp_path: Path, make_case: MakeCase) -> None:
    case = make_case("a")
    run([case], tmp_path / "store")
    store, work = run([replace(case, label=None)], tmp_path / "store")
    assert (work.changed, store.has_label("a")) == (1, False)
    assert not list((tmp_path / "store" / "labels").iterdir())


def test_other_preprocessing_or_source_is_refused_and_changes_nothing(tmp_path: Path, make_case: MakeCase) -> None:
    cases = [make_case("a")]
    run(cases, tmp_path / "store")
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"store exists already and was prepared with spacing 1\.0, now 2\.0; give"):
        prepare(cases, tmp_path / "store", replace(MR, spacing=2.0), source="here")
    with pytest.raises(UserError, match=r"store exists already and was prepared from here, not elsewhere"):
        prepare(cases, tmp_path / "store", MR, source="elsewhere")
    assert contents(tmp_path) == before


def test_the_staging_area_of_another_run_is_refused(tmp_path: Path, make_case: MakeCase) -> None:
    cases = [make_case(name) for name in "ab"]

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(cases, tmp_path / "store", MR, source="here", progress=lambda _: stop)
    left = contents(tmp_path / "store.partial")
    with pytest.raises(UserError, match=r"store\.partial is what an earlier run left, with another source"):
        prepare(cases, tmp_path / "store", replace(MR, spacing=2.0), source="here")
    assert contents(tmp_path / "store.partial") == left
    shutil.rmtree(tmp_path / "store.partial")
    (tmp_path / "store.partial").mkdir()
    (tmp_path / "store.partial" / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"store\.partial is in the way"):
        run(cases, tmp_path / "store")
    assert contents(tmp_path / "store.partial") == {"thesis.txt": b"mine"}


def test_simultaneous_runs_are_refused(tmp_path: Path, make_case: MakeCase) -> None:
    cases = [make_case(name) for name in "ab"]
    output = []

    def meanwhile() -> None:
        with pytest.raises(UserError, match="another gvsl prepare is writing") as caught:
            run(cases, tmp_path / "store")
        output.append(str(caught.value))

    prepare(cases, tmp_path / "store", MR, source="here", progress=lambda _: meanwhile)
    assert len(output) == 2
    assert list(Store.open(tmp_path / "store").cases) == ["a", "b"]


@pytest.mark.parametrize("place", ["s3://bucket/store", "gs://bucket/store", "https://host/store"])
def test_a_store_is_not_written_to_a_url(tmp_path: Path, make_case: MakeCase, place: str) -> None:
    with pytest.raises(UserError, match=f"^{place} is a URL; a store is a folder of files: copy or mount it"):
        prepare([make_case("a")], Path(place), MR, source="here")


def test_sources_are_recorded(tmp_path: Path, make_case: MakeCase) -> None:
    case = make_case("a")
    run([case], tmp_path / "store")
    (line,) = (tmp_path / "store" / "sources.jsonl").read_text(encoding="utf-8").splitlines()
    found = json.loads(line)
    assert found["id"] == "a"
    assert found["image"]["size"] == case.image.stat().st_size
    assert found["stored"] == [(tmp_path / "store" / part / "a.b2nd").stat().st_size for part in ("images", "labels")]


def with_maps(case: Case) -> Case:
    """Give a case a folder of binary maps, A and B, for a label map."""
    assert case.label is not None
    image = nibabel.load(case.label)
    folder = case.label.parent / case.id
    folder.mkdir()
    for name, value in (("A", 1), ("B", 2)):
        found = (np.asanyarray(image.dataobj) == value).astype(np.uint8)
        nibabel.Nifti1Image(found, image.affine).to_filename(folder / f"{name}.nii.gz")
    return replace(case, label=folder)


@pytest.mark.parametrize("names", [{1: "B", 2: "A"}, {1: "B"}, {1: "A", 2: "B", 3: "ignore"}])
def test_structures_are_read_again_where_their_names_have_changed(
    tmp_path: Path, make_case: MakeCase, names: dict[int, str]
) -> None:
    cases = [with_maps(make_case("a")), make_case("b", labelled=False)]
    first, _ = run(cases, tmp_path / "store", label_names={1: "A", 2: "B"})
    same, work = run(cases, tmp_path / "store", label_names={2: "b", 1: " a"})
    assert work.kept == 2 and (same.label("a") == first.label("a")).all()
    run(cases, tmp_path / "store", label_names={1: "A", 2: "B"})
    after, work = run(cases, tmp_path / "store", label_names=names)
    assert (work.changed, work.kept) == (1, 1)
    assert contents(after.path) == contents(run(cases, tmp_path / "fresh", label_names=names)[0].path)
    assert run(cases, tmp_path / "store", label_names=names)[1].kept == 2


@pytest.mark.parametrize("gone", [False, True])
def test_a_case_that_can_not_be_prepared_again_keeps_no_voxels_under_another_name(
    tmp_path: Path, make_case: MakeCase, gone: bool
) -> None:
    cases = [with_maps(make_case(name)) for name in "ab"]
    before = contents(run(cases, tmp_path / "store", label_names={1: "A"})[0].path)
    assert cases[1].label is not None
    (cases[1].label / "B.nii.gz").unlink()
    left = cases[:1] if gone else [cases[0], replace(cases[1], unusable="lacks the map of B")]
    for _ in range(2):
        with pytest.raises(UserError, match=r"case b is gone or can't .* and its label value 1 was 'A'"):
            run(left, tmp_path / "store", label_names={1: "B"})
    assert contents(tmp_path / "store") == before


def test_a_gone_case_keeps_names_that_stay_and_gets_one_for_a_value_that_had_none(
    tmp_path: Path, make_case: MakeCase
) -> None:
    cases = [make_case(name) for name in "ab"]
    run(cases, tmp_path / "alike", label_names={1: "A", 2: "A"})
    assert run(cases[:1], tmp_path / "alike", label_names={1: "A", 2: "A"})[0].label_names == {1: "A", 2: "A"}
    with pytest.raises(UserError, match=r"case b is gone .* label value 1 was 'A'"):
        run(cases[:1], tmp_path / "alike", label_names={1: "A", 2: "A", 3: "a"})
    run(cases, tmp_path / "nameless")
    assert run(cases[:1], tmp_path / "nameless", label_names={1: "A", 2: "B"})[0].label_names == {1: "A", 2: "B"}


def test_scans_of_a_subject_stay_together_where_one_is_gone(tmp_path: Path, make_case: MakeCase) -> None:
    cases = [replace(make_case(name), subject="p") for name in "ab"]
    cases += [replace(make_case("c"), subject="q"), replace(make_case("d"), subject="q", unusable="no")]
    assert run(cases, tmp_path / "store")[0].subjects("abc") == ["a", "a", "c"]
    more = [*cases[1:], replace(make_case("e"), subject="p")]
    assert run(more, tmp_path / "store")[0].subjects("abce") == ["a", "a", "c", "a"]
    assert run([cases[2]], tmp_path / "store")[0].subjects("abce") == ["a", "a", "c", "a"]


def test_what_is_known_to_be_unusable_is_refused_in_every_run(tmp_path: Path, make_case: MakeCase) -> None:
    cases = [make_case(name) for name in "ab"]
    run(cases, tmp_path / "store")
    spoilt = [cases[0], replace(cases[1], unusable="lacks a map")]
    for _ in range(2):
        store, work = run(spoilt, tmp_path / "store")
        assert work.stale == ("b",)
        assert store.refused == (("images/b.nii.gz", "lacks a map"),)


def test_a_value_that_has_no_name_any_more_is_refused_as_in_a_new_store(tmp_path: Path, make_case: MakeCase) -> None:
    cases = [make_case(name) for name in "ab"]
    assert cases[1].label is not None
    image = nibabel.load(cases[1].label)
    only = (np.asanyarray(image.dataobj) == 1).astype(np.uint8)
    nibabel.Nifti1Image(only, image.affine).to_filename(cases[1].label)
    run(cases, tmp_path / "store", label_names={1: "A", 2: "B"})
    store, work = run(cases, tmp_path / "store", label_names={1: "A"})
    assert work.stale == ("a",)
    fresh, _ = run(cases, tmp_path / "fresh", label_names={1: "A"})
    assert store.refused == fresh.refused
    with pytest.raises(UserError, match="its label value 1 was 'A', which would be 'B' or the name of another"):
        run(cases, tmp_path / "store", label_names={1: "B"})


def test_names_of_values_in_files_are_changed_without_reading_voxels(tmp_path: Path, make_case: MakeCase) -> None:
    cases = [make_case("a")]
    before, _ = run(cases, tmp_path / "store", label_names={1: "A", 2: "B"})
    after, work = run(cases, tmp_path / "store", label_names={1: "B", 2: "A"})
    assert work.kept == 1 and after.label_names == {1: "B", 2: "A"}
    assert (after.label("a") == before.label("a")).all()


def test_a_name_that_only_a_gone_case_keeps_does_not_count_as_changed(tmp_path: Path, make_case: MakeCase) -> None:
    cases = [with_maps(make_case(name)) for name in "ab"]
    run(cases, tmp_path / "store", label_names={1: "A", 2: "B"})
    works = [run(cases[:1], tmp_path / "store", label_names={1: "A"})[1] for _ in range(2)]
    assert [(work.changed, work.kept) for work in works] == [(1, 0), (0, 1)]


def test_a_staging_area_with_other_label_names_is_refused(tmp_path: Path, make_case: MakeCase) -> None:
    cases = [make_case(name) for name in "ab"]

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(cases, tmp_path / "store", label_names={1: "A", 2: "B"}, progress=lambda _: stop)
    with pytest.raises(UserError, match=r"store\.partial is what an earlier run left"):
        run(cases, tmp_path / "store", label_names={1: "B", 2: "A"})
    assert run(cases, tmp_path / "store", label_names={1: "A", 2: "B"})[1].resumed == 1


def write_mhd(path: Path, data: str, values: bytes) -> None:
    """Write a MetaImage of 4 x 4 x 4 bytes whose voxels are in the file `data`."""
    sizes = "NDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\nElementSpacing = 1 1 1\n"
    path.write_text(f"ObjectType = Image\n{sizes}ElementDataFile = {data}\n", encoding="utf-8")
    (path.parent / data).write_bytes(values)


def write_pair(header: str, voxels: str, folder: Path, value: int) -> Path:
    image = nibabel.Nifti1Pair(np.full((4, 4, 4), value, np.uint8), np.eye(4))
    nibabel.save(image, folder / "pair.img")
    for name, made in ((header, "pair.hdr"), (voxels, "pair.img")):
        content = (folder / made).read_bytes()
        (folder / made).unlink()
        (folder / name).write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
    return folder / header


@pytest.mark.parametrize("kind", ["a.mhd", "a.mha", "b.hdr.gz", "c.hdr"])
def test_a_changed_file_of_voxels_is_noticed(tmp_path: Path, kind: str) -> None:
    def write(value: int) -> Path:
        if kind.startswith("a"):
            write_mhd(tmp_path / kind, "voxels.bin", bytes([value, *range(63)]))
            return tmp_path / kind
        voxels = {"b.hdr.gz": "b.img.gz", "c.hdr": "c.IMG"}[kind]
        return write_pair(kind, voxels, tmp_path, value)

    case = Case("a", write(3))
    first = case_stamps(case, content=True).origin("a", (1,))
    earlier = case_stamps(case, content=True, guessed=True).origin("a", (1,))
    assert earlier != first
    assert unchanged(case, first) == first
    assert unchanged(case, earlier) == first  # a store of an earlier gvsl is kept, and stamped anew
    write(4)
    assert unchanged(case, first) is None


def test_files_beside_a_header_count_as_before_in_a_store_that_stamped_them(tmp_path: Path) -> None:
    write_mhd(tmp_path / "a.mhd", "a.raw", bytes(range(64)))
    case = Case("a", tmp_path / "a.mhd")
    earlier = case_stamps(case, content=True, guessed=True).origin("a", (1,))
    assert case_stamps(case, content=True).origin("a", (1,)) == earlier
    (tmp_path / "link").symlink_to(tmp_path)
    linked = Case("a", tmp_path / "link" / "a.mhd")
    os.utime(tmp_path / "a.raw", (1, 1))
    found = unchanged(linked, replace(earlier, image=replace(earlier.image, mtime_ns=1)))
    assert found is not None and found.image.sha256 == earlier.image.sha256
