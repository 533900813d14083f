import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gvsl.cli import main
from gvsl.datasets.decathlon import decathlon
from gvsl.errors import UserError
from gvsl.store import Store

from .conftest import AddCase

LABELS = {"0": "background", "1": "Anterior", "2": "Posterior"}


@pytest.fixture
def root(tmp_path: Path, add_case: AddCase) -> Path:
    """A miniature task: ten labelled cases and two test images."""
    root = tmp_path / "Task04_Hippocampus"
    names = [f"hippocampus_{number:03d}.nii.gz" for number in range(12)]
    for name in names[:10]:
        add_case(root / "imagesTr" / name, root / "labelsTr" / name, [1, 2])
    for name in names[10:]:
        add_case(root / "imagesTs" / name, None, [])
    listed = {
        "name": "Hippocampus",
        "tensorImageSize": "3D",
        "modality": {"0": "MRI"},
        "labels": LABELS,
        "numTraining": 10,
        "numTest": 2,
        "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names[:10]],
        "test": [f"./imagesTs/{name}" for name in names[10:]],
    }
    (root / "dataset.json").write_text(json.dumps(listed), encoding="utf-8")
    return root


def change(root: Path, **parts: Any) -> None:
    path = root / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **parts}), encoding="utf-8")


def test_it_becomes_a_store(root: Path, tmp_path: Path) -> None:
    assert main(["prepare", str(root), str(tmp_path / "store"), "--dataset", "decathlon", "--processes", "1"]) == 0
    store = Store.open(tmp_path / "store")
    assert (len(store.cases), store.refused) == (12, ())
    assert store.label_names == {1: "Anterior", 2: "Posterior"}
    assert [len(store.split(name)) for name in ("pretrain", "train", "val", "test")] == [6, 6, 2, 2]
    for case_id in ("hippocampus_010", "hippocampus_011"):
        assert store.cases[case_id].splits == ()
        assert not store.has_label(case_id)
    assert all(set(np.unique(store.label(case_id))) == {0, 1, 2} for case_id in store.split("train"))


def test_folds_test_every_case_once(root: Path) -> None:
    tested = [case.id for number in range(5) for case in decathlon(root, number).cases if case.splits == ("test",)]
    assert sorted(tested) == [f"hippocampus_{number:03d}" for number in range(10)]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"modality": {"0": "T2", "1": "ADC"}},
            r"\(T2, ADC\): give --channels all, or those to take, such as --channels T2",
        ),
        ({"modality": None}, "should have a dict of modality"),
        ({"training": []}, "lists no training cases"),
        ({"training": [{"image": "../../etc/passwd", "label": "x"}]}, "should name files below"),
        ({"training": [{"image": "/etc/passwd", "label": "x"}]}, "should name files below"),
        ({"training": [{"image": 3, "label": "x"}]}, "should name files below"),
        ({"training": [{"image": "x\0y.nii.gz", "label": "x"}]}, "should name files below"),
        ({"training": [{"image": "x\ud800y.nii.gz", "label": "x"}]}, "half of a character"),
        ({"labels": {"liver": 1}}, "should have whole numbers and names in labels"),
        ({"test": None}, "should have a list of test"),
        ({"labels": {"1": "liver", "01": "spleen"}}, "names a label value twice"),
        ({"labels": {"1": 5}}, "should have whole numbers and names in labels"),
    ],
)
def test_malformed_listings_are_refused(root: Path, parts: dict[str, Any], message: str) -> None:
    change(root, **parts)
    with pytest.raises(UserError, match=message) as caught:
        decathlon(root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '"a"', "[" * 100_000])
def test_unreadable_listings_are_refused(root: Path, text: str) -> None:
    (root / "dataset.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"dataset\.json"):
        decathlon(root)
