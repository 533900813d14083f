import json
import pickle
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gvsl.errors import UserError
from gvsl.preprocessing import PRESETS
from gvsl.store import Store
from gvsl.store.arrays import read_array, write_array
from gvsl.store.manifest import manifest_hash, manifest_text
from gvsl.store.store import Cases
from gvsl.store.table import CaseTable, row_line

MakeStore = Callable[..., Store]


def edit(store: Store, rows: list[Any] | None = None, **changes: Any) -> None:
    """Change the manifest, or its cases, and update its hashes."""
    path = store.path / "manifest.json"
    lines = store.table.lines
    if rows is not None:
        lines = b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows)
        (store.path / "cases.jsonl").write_bytes(lines)
    manifest = {name: value for name, value in json.loads(path.read_text(encoding="utf-8")).items() if name != "hash"}
    manifest = {**json.loads(manifest_text(manifest, lines)), **changes}
    path.write_text(json.dumps({**manifest, "hash": manifest_hash(manifest)}), encoding="utf-8")


def rows_of(store: Store) -> list[Any]:
    return [json.loads(line) for line in store.table.lines.splitlines()]


def test_a_store_is_read_back(make_store: MakeStore) -> None:
    made = make_store()
    store = Store.open(made.path)
    assert list(store.cases) == ["a", "b", "c"]
    assert store.preprocessing == PRESETS["mr"]
    assert store.source == "source"
    assert store.hash == made.hash
    image, label = store.image("a"), store.label("a")
    assert image.dtype == np.float32
    assert label.dtype == np.uint8
    assert image.min() == 0
    assert image.max() == 1
    assert image.shape == label.shape == store.cases["a"].shape
    assert image[label > 0].mean() > 2 * image[label == 0].mean()


def test_splits_are_sorted_and_errors_list_them(make_store: MakeStore) -> None:
    store = make_store()
    assert store.split("pretrain") == ["a", "b"]
    assert store.split("train") == ["a"]
    assert store.split("test") == ["c"]
    with pytest.raises(UserError, match=r"no case in the split .val.; its splits are pretrain, test, train"):
        store.split("val")


def test_a_crop_is_the_part_of_the_whole(make_store: MakeStore) -> None:
    store = make_store()
    box = (slice(2, 9), slice(0, 5), slice(7, 16))
    np.testing.assert_array_equal(store.image("b", box), store.image("b")[box])
    np.testing.assert_array_equal(store.label("b", box), store.label("b")[box])


def test_a_crop_is_read_without_the_rest_of_the_volume(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((200, 130, 130)).astype(np.float16)
    path = tmp_path / "a.b2nd"
    write_array(path, array)
    box = (slice(0, 64), slice(0, 64), slice(0, 64))
    whole = path.read_bytes()
    # Chunks are stored in axis order, followed by their index: damage all but the first 64 voxels of the first axis.
    first, last = int(len(whole) * 0.4), int(len(whole) * 0.98)
    path.write_bytes(whole[:first] + bytes(last - first) + whole[last:])
    np.testing.assert_array_equal(read_array(path, array.shape, box), array[box])
    with pytest.raises(UserError, match="can't be read"):
        read_array(path, array.shape, (slice(136, 200), slice(0, 64), slice(0, 64)))


@pytest.mark.slow
def test_100_000_cases_are_held_in_little_memory() -> None:
    geometry = {"affine": [[0.123456789] * 4] * 4, "source_affine": [[1.23456789] * 4] * 4, "source_shape": [9, 9, 9]}
    expected = {"labels_cropped": 0, "geometry": geometry, "source": "images/some_study.nii.gz", "hash": "0" * 64}
    line = row_line({"id": "c000000", "splits": ["pretrain"], "shape": [9, 8, 1], "labels": None, **expected}).decode()
    begin, middle, end = line.replace("c000000", "|", 1).replace("[9,8,1]", "|", 1).split("|")
    lines = "".join(f"{begin}c{number:06d}{middle}[9,8,{number + 1}]{end}" for number in range(100_000)).encode()
    tracemalloc.start()
    try:
        table = CaseTable.parse(lines)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(lines) + peak < 150 * 2**20
    assert held < 60 * 2**20
    case = Cases(Path("store"), table)["c077777"]
    assert (case.shape, case.hash, len(table.of_split("pretrain"))) == ((9, 8, 77778), "0" * 64, 100_000)


def test_missing_labels_are_reported(make_store: MakeStore) -> None:
    store = make_store()
    assert store.has_label("a")
    assert not store.has_label("c")
    assert store.cases["c"].label_values is None
    with pytest.raises(UserError, match=r"case c of .* has no label map"):
        store.label("c")
    for read in (store.image, store.label, store.has_label):
        with pytest.raises(UserError, match="has no case 'zebra'"):
            read("zebra")


def test_a_store_can_be_pickled(make_store: MakeStore) -> None:
    store = make_store()
    store.image("a")
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.image("a"), store.image("a"))


def test_the_hash_covers_preprocessing_cases_and_voxels(make_store: MakeStore) -> None:
    first = make_store("first")
    assert make_store("second", source="elsewhere").hash == first.hash
    assert make_store("third", replace(PRESETS["mr"], margin=3)).hash != first.hash
    assert len({case.hash for case in first.cases.values()}) == 3


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda path: None, "does not exist; make a store with `gvsl prepare"),
        (lambda path: path.mkdir(), "is not a store: it has no manifest.json"),
        (lambda path: path.write_text("x", encoding="utf-8"), "is not a store: it has no manifest.json"),
        (
            lambda path: (path.mkdir(), (path / "manifest.json").write_text("{", encoding="utf-8")),
            "manifest.json can't be read",
        ),
        (
            lambda path: (path.mkdir(), (path / "manifest.json").write_text("[1]", encoding="utf-8")),
            "is not the manifest of a store",
        ),
        (
            lambda path: (path.mkdir(), (path / "manifest.json").write_text('{"format": 2}', encoding="utf-8")),
            "is broken or was changed",
        ),
    ],
)
def test_non_stores_are_refused(tmp_path: Path, build: Callable[[Path], object], message: str) -> None:
    build(tmp_path / "store")
    with pytest.raises(UserError, match=message) as caught:
        Store.open(tmp_path / "store")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [1, 3])
def test_another_format_is_refused(make_store: MakeStore, number: int) -> None:
    store = make_store()
    edit(store, format=number)
    with pytest.raises(UserError, match=f"has store format {number}, this gvsl reads 2"):
        Store.open(store.path)


@pytest.mark.parametrize("name", ["manifest.json", "cases.jsonl"])
def test_an_edited_manifest_is_refused(make_store: MakeStore, name: str) -> None:
    path = make_store().path / name
    path.write_text(
        path.read_text(encoding="utf-8").replace("block" if name == "manifest.json" else '"test"', '"train"'),
        encoding="utf-8",
    )
    with pytest.raises(UserError, match=r"changed by hand|can't be read"):
        Store.open(path.parent)


@pytest.mark.parametrize("changes", [{"label_names": []}, {"label_names": {"one": "x"}}, {"preprocessing": {}}])
def test_an_invalid_manifest_is_refused(make_store: MakeStore, changes: dict[str, Any]) -> None:
    store = make_store()
    edit(store, **changes)
    with pytest.raises(UserError, match=r"broken manifest|preprocessing settings"):
        Store.open(store.path)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "../../elsewhere"},
        {"id": "b"},  # a duplicate
        {"splits": ["testing"]},
        {"splits": "test"},
        {"shape": [3, 4]},
        {"shape": [3, 4, -1]},
        {"labels": "1, 2"},
    ],
    ids=str,
)
def test_invalid_cases_are_refused(make_store: MakeStore, change: dict[str, Any]) -> None:
    store = make_store()
    first, *others = rows_of(store)
    edit(store, [{**first, **change}, *others])
    with pytest.raises(UserError, match="broken manifest"):
        Store.open(store.path)


@pytest.mark.parametrize(
    "change", [{"geometry": None}, {"geometry": {}}, {"target": 2}, {"foreground": [[0, 2], [0, 99], [0, 2]]}], ids=str
)
def test_an_invalid_case_is_refused_on_access(make_store: MakeStore, change: dict[str, Any]) -> None:
    store = make_store()
    first, *others = rows_of(store)
    edit(store, [{**first, **change}, *others])
    with pytest.raises(UserError, match="broken manifest"):
        Store.open(store.path).cases["a"]
    assert Store.open(store.path).cases["b"].id == "b"


def test_an_incomplete_store_is_refused(make_store: MakeStore) -> None:
    store = make_store()
    (store.path / "labels" / "b.b2nd").unlink()
    with pytest.raises(UserError, match=r"is incomplete: labels/b\.b2nd is missing"):
        Store.open(store.path)


@pytest.mark.parametrize("keep", [0, 50, 400, -40])
def test_a_damaged_array_is_named(make_store: MakeStore, keep: int) -> None:
    store = make_store()
    path = store.path / "images" / "b.b2nd"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"b\.b2nd can't be read"):
        store.image("b")


def test_an_array_of_another_case_is_named(make_store: MakeStore) -> None:
    store = make_store()
    (store.path / "images" / "a.b2nd").replace(store.path / "images" / "b.b2nd")
    with pytest.raises(UserError, match=r"b\.b2nd has shape"):
        store.image("b")
