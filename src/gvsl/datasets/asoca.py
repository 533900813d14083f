"""ASOCA: coronary arteries on CT angiography (Gharleghi et al. 2022; task `sac`)."""

from pathlib import Path

from gvsl.cases import Case
from gvsl.datasets.dataset import Dataset
from gvsl.datasets.discovery import by_id
from gvsl.datasets.splits import drawn, one_fold
from gvsl.errors import UserError

GROUPS = ("Normal", "Diseased")
COUNTS = {"train": 15, "val": 5, "test": 20}
"""Of the 40 cases (Table 2)."""
FOLDS = 5
TREE = "Normal/CTCA/Normal_1.nrrd, Normal/Annotations/Normal_1.nrrd and so on, and the same for Diseased"


def asoca(root: Path, fold: int | None = None) -> Dataset:
    """The scans of ASOCA, normal and diseased, as they are handed out, at any depth below `root`.

    Args:
        root: the folder that holds Normal and Diseased.
        fold: of a five-fold cross-validation; the paper's 15, 5 and 20 if not given.

    Raises:
        UserError: `root` holds no such files, or two of one case, or there is no such fold.
    """
    found = (path for group in GROUPS for path in sorted(root.rglob(f"{group}/CTCA/{group}_*.nrrd")))
    images = by_id(((path.stem, path) for path in found), root)
    if not images:
        raise UserError(f"{root} is not ASOCA: it should hold {TREE}")
    splits = drawn(list(images), COUNTS) if fold is None else one_fold(list(images), fold, FOLDS)
    cases = [Case(name, path, _label_of(path), splits[name]) for name, path in images.items()]
    return Dataset(cases, {1: "coronary arteries"}, "asoca", {1: 1})


def _label_of(image: Path) -> Path:
    return image.parent.with_name("Annotations") / image.name
