"""ASOCA: coronary arteries on CT angiography (Gharleghi et al. 2022; task `sac`)."""

from pathlib import Path

from gvsl.cases import Case, Dataset
from gvsl.datasets.discovery import by_id
from gvsl.datasets.splits import draw_or_fold
from gvsl.datasets.tree import matching
from gvsl.errors import UserError

GROUPS = ("Normal", "Diseased")
COUNTS = {"train": 15, "val": 5, "test": 20}
"""The split of the 40 cases in the GVSL paper (Table 2)."""
TREE = "Normal/CTCA/Normal_1.nrrd, Normal/Annotations/Normal_1.nrrd and so on, likewise for Diseased"


def asoca(root: Path, fold: int | None = None) -> Dataset:
    """Load ASOCA's normal and diseased scans as they are distributed, at any depth below `root`.

    Args:
        root: folder with Normal and Diseased.
        fold: of a five-fold cross-validation; by default the paper's split.

    Raises:
        UserError: `root` has no such files, or two of one case, or there is no such fold.
    """
    found = matching(root, [f"{group}/CTCA/{group}_*.nrrd" for group in GROUPS])
    images = by_id(((path.stem, path) for path in found), root)
    if not images:
        raise UserError(f"{root} is not ASOCA: it should hold {TREE}")
    splits = draw_or_fold(list(images), COUNTS, fold)
    labels = {name: path.parent.with_name("Annotations") / path.name for name, path in images.items()}
    cases = [Case(name, path, labels[name], splits[name]) for name, path in images.items()]
    return Dataset(cases, {1: "coronary arteries"}, "asoca", {1: 1})
