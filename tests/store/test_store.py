import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gvsl.errors import UserError
from gvsl.store import PRESETS, Store
from gvsl.store.manifest import manifest_hash

MakeStore = Callable[..., Store]


def edit(store: Store, **changes: Any) -> None:
    """Change the manifest and make its hash right again."""
    path = store.path / "manifest.json"
    manifest = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({**manifest, "hash": manifest_hash(manifest)}))


def test_a_store_is_read_back_whole(make_store: MakeStore) -> None:
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


def test_splits_are_sorted_and_name_what_there_is(make_store: MakeStore) -> None:
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


def test_labels_are_there_or_not(make_store: MakeStore) -> None:
    store = make_store()
    assert store.has_label("a")
    assert not store.has_label("c")
    assert store.cases["c"].label_values is None
    with pytest.raises(UserError, match=r"case c of .* has no label map"):
        store.label("c")
    for read in (store.image, store.label, store.has_label):
        with pytest.raises(UserError, match="has no case 'zebra'"):
            read("zebra")


def test_a_store_travels_to_other_processes(make_store: MakeStore) -> None:
    store = make_store()
    store.image("a")
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.image("a"), store.image("a"))


def test_the_hash_is_that_of_contract_cases_and_voxels(make_store: MakeStore) -> None:
    first = make_store("first")
    assert make_store("second", source="elsewhere").hash == first.hash
    assert make_store("third", replace(PRESETS["mr"], margin=3)).hash != first.hash
    assert len({case.hash for case in first.cases.values()}) == 3


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda path: None, "does not exist; make a store with `gvsl prepare"),
        (lambda path: path.mkdir(), "is not a store: it has no manifest.json"),
        (lambda path: path.write_text("x"), "is not a store: it has no manifest.json"),
        (lambda path: (path.mkdir(), (path / "manifest.json").write_text("{")), "manifest.json can't be read"),
        (lambda path: (path.mkdir(), (path / "manifest.json").write_text("[1]")), "is not the manifest of a store"),
        (lambda path: (path.mkdir(), (path / "manifest.json").write_text('{"format": 1}')), "is broken or was changed"),
    ],
)
def test_what_is_no_store_is_refused(tmp_path: Path, build: Callable[[Path], object], message: str) -> None:
    build(tmp_path / "store")
    with pytest.raises(UserError, match=message) as caught:
        Store.open(tmp_path / "store")
    assert "\n" not in str(caught.value)


def test_a_newer_format_is_refused(make_store: MakeStore) -> None:
    store = make_store()
    edit(store, format=2)
    with pytest.raises(UserError, match="has store format 2, this gvsl reads 1"):
        Store.open(store.path)


def test_a_manifest_changed_by_hand_is_refused(make_store: MakeStore) -> None:
    path = make_store().path / "manifest.json"
    path.write_text(path.read_text().replace('"test"', '"train"'))
    with pytest.raises(UserError, match="changed by hand"):
        Store.open(path.parent)


@pytest.mark.parametrize(
    "changes", [{"cases": [{"id": "a"}]}, {"cases": 3}, {"label_names": []}, {"label_names": {"one": "x"}}]
)
def test_a_manifest_that_makes_no_sense_is_refused(make_store: MakeStore, changes: dict[str, Any]) -> None:
    store = make_store()
    edit(store, **changes)
    with pytest.raises(UserError, match="broken manifest"):
        Store.open(store.path)


def test_a_store_without_all_its_files_is_refused(make_store: MakeStore) -> None:
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
