from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from gvsl.store import Preprocessing, Store, prepare
from gvsl.transfer import Checkpoint
from gvsl.types import Case

SPLITS = ["train"] * 5 + ["val"] * 2 + ["test"] * 3
NAMES = {1: "ball", 7: "box"}
LabelArray = NDArray[np.uint8]
Change = Callable[[int, LabelArray], LabelArray | None]
"""A case's number and its label map to the map it shall have instead, or to none."""


def subject(number: int) -> tuple[NDArray[np.float32], LabelArray]:
    """A bright ball and a dark box in noise, each somewhere else in every subject."""
    generator = np.random.default_rng(number)
    shape = (20, 16, 16)
    points = np.indices(shape)
    ball, corner = generator.integers(5, 8, size=3), generator.integers(9, 11, size=3)
    label = np.zeros(shape, np.uint8)
    label[sum((points[axis] - ball[axis]) ** 2 for axis in range(3)) <= 16] = 1
    label[tuple(slice(start, start + 5) for start in corner)] = 7
    image = 0.5 + 0.4 * (label == 1) - 0.4 * (label == 7) + generator.normal(0, 0.05, shape)
    return image.astype(np.float32), label


def make_store(folder: Path, change: Change = lambda _, label: label, spacing: float = 1.0) -> Store:
    """A store of five training, two validation and three test cases."""
    folder.mkdir()
    cases = []
    for number, split in enumerate(SPLITS):
        image, label = subject(number)
        files = {"image": image, "label": change(number, label)}
        for name, array in files.items():
            if array is not None:
                header = nib.Nifti1Image(array, np.diag([spacing] * 3 + [1.0]))
                nib.save(header, folder / f"{name}{number}.nii")
        truth = None if files["label"] is None else folder / f"label{number}.nii"
        cases.append(Case(f"s{number}", folder / f"image{number}.nii", truth, (split,)))
    contract = Preprocessing(crop="none", spacing=spacing)
    return prepare(cases, folder / "store", contract, label_names=NAMES, source="made")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("labelled") / "made")


@pytest.fixture
def build_store(tmp_path: Path) -> Callable[..., Store]:
    def build(change: Change = lambda _, label: label, spacing: float = 1.0) -> Store:
        return make_store(tmp_path / "made", change, spacing)

    return build


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Have Ctrl-C come right after this step of a transfer; None for never."""
    save = Checkpoint.save

    def stop(last: int | None) -> None:
        def save_and_stop(self: Checkpoint, step: int, *rest: Any) -> None:
            save(self, step, *rest)
            if step == last:
                raise KeyboardInterrupt

        monkeypatch.setattr(Checkpoint, "save", save_and_stop)

    return stop
