from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from gvsl.store import PRESETS, Preprocessing, Store, prepare
from gvsl.types import Case

MakeCase = Callable[..., Case]
MakeStore = Callable[..., Store]


@pytest.fixture
def make_case(tmp_path: Path) -> MakeCase:
    """Writes an image of noise about a bright block, and its label map, and returns the case."""

    def make(
        name: str,
        splits: tuple[str, ...] = ("pretrain",),
        shape: tuple[int, ...] = (12, 14, 16),
        labelled: bool = True,
        spacing: tuple[float, float, float] = (1, 1, 1),
    ) -> Case:
        draw = np.random.default_rng(sum(name.encode()))
        image = draw.normal(100, 10, shape).astype(np.float32)
        image[3:8, 4:9, 5:10] += 200
        label = np.zeros(shape, np.uint8)
        label[3:8, 4:9, 5:10] = 1
        label[3:5, 4:9, 5:10] = 2
        affine = np.diag([*spacing, 1.0])
        paths = tmp_path / "source" / "images" / f"{name}.nii.gz", tmp_path / "source" / "labels" / f"{name}.nii.gz"
        for path, array in zip(paths, (image, label), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.Nifti1Image(array, affine).to_filename(path)
        return Case(name, paths[0], paths[1] if labelled else None, splits)

    return make


@pytest.fixture
def make_store(tmp_path: Path, make_case: MakeCase) -> MakeStore:
    """Prepares three cases: a and b to train on, c, without labels, for tests."""

    def make(name: str = "store", contract: Preprocessing = PRESETS["mr"], source: str = "source") -> Store:
        cases = [
            make_case("a", ("pretrain", "train")),
            make_case("b", ("pretrain",), shape=(13, 15, 17)),
            make_case("c", ("test",), labelled=False),
        ]
        return prepare(cases, tmp_path / name, contract, label_names={1: "block"}, source=source)

    return make
