from pathlib import Path

import nibabel
import numpy as np
import pytest

from gvsl.cases import Case
from gvsl.errors import UserError
from gvsl.io import UnusableFile, Volume
from gvsl.preparation import prepare
from gvsl.preprocessing import PRESETS
from gvsl.preprocessing.relabel import refuse_unnamed, relabelled
from gvsl.store import Store


def label(*values: int) -> Volume:
    return Volume(np.array(values, np.int16).reshape(-1, 1, 1), np.eye(4))


def test_values_are_replaced_and_background_stays() -> None:
    found = relabelled(label(0, 421, 420, 850, 0), {420: 1, 421: 1, 850: 2})
    assert found.array.ravel().tolist() == [0, 1, 1, 2, 0]
    assert found.array.dtype == np.uint8
    assert relabelled(label(0, 3), {3: 850}).array.dtype == np.int16


def test_without_values_the_label_map_is_unchanged() -> None:
    one = label(0, 7)
    assert relabelled(one, {}) is one


def test_unlisted_values_are_refused_by_name() -> None:
    with pytest.raises(UnusableFile, match=r"doesn't list: 3, 5$"):
        relabelled(label(5, 0, 3, 1), {1: 1})
    with pytest.raises(UnusableFile, match="doesn't list: 11, 12, 13, 14, 15 and 2 more"):
        relabelled(label(*range(11, 18)), {1: 1})


def test_a_store_keeps_its_label_values(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    values = draw.integers(0, 3, (8, 8, 8)).astype(np.uint8)
    for name, array in (("image", draw.random((8, 8, 8), np.float32)), ("label", values)):
        nibabel.Nifti1Image(array, np.eye(4)).to_filename(tmp_path / f"{name}.nii")
    cases = [Case("a", tmp_path / "image.nii", tmp_path / "label.nii", ("train",))]

    def again(label_values: dict[int, int]) -> Store:
        spec = PRESETS["none"]
        return prepare(cases, tmp_path / "store", spec, source="made", label_values=label_values)

    store = again({1: 5, 2: 0})
    np.testing.assert_array_equal(store.label("a"), np.where(values == 1, 5, 0))
    assert again({1: 5, 2: 0}).hash == store.hash
    for others in ({1: 5, 2: 1}, {}):
        with pytest.raises(UserError, match="has other label values; name another output"):
            again(others)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ({}, r"label values below 0: -1 \(2 voxels\); .*\"-1\": \"ignore\""),
        ({1: "a", -1: "b"}, r"label values without a name: 255 \(1 voxels\); .*\"255\": \"ignore\""),
        ({255: "ignore"}, r"without a name: -1 \(2 voxels\), 1 \(1 voxels\)"),
    ],
)
def test_values_whose_meaning_nobody_gave_are_refused(names: dict[int, str], reason: str) -> None:
    with pytest.raises(UnusableFile, match=reason):
        refuse_unnamed(label(-1, -1, 0, 1, 255), names)


def test_named_values_are_accepted_and_unnamed_ones_above_0_if_there_are_no_names() -> None:
    refuse_unnamed(label(-1, 0, 255), {-1: "a", 255: "ignore"})
    refuse_unnamed(label(0, 1, 255), {})
