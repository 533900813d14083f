"""CANDI: brains of children on T1-weighted MR with 28 structures (Kennedy et al. 2012; task `sbm`)."""

from pathlib import Path

from gvsl.cases import Case, Dataset
from gvsl.datasets.discovery import by_id
from gvsl.datasets.splits import draw_or_fold
from gvsl.datasets.tree import matching
from gvsl.errors import UserError

GROUPS = ("BPDwPsy", "BPDwoPsy", "HC", "SS")
"""Bipolar disorder with and without psychosis, healthy controls, schizophrenia spectrum."""
SIDES = {
    "cerebral white matter": (2, 41),
    "cerebral cortex": (3, 42),
    "lateral ventricle": (4, 43),
    "cerebellar white matter": (7, 46),
    "cerebellar cortex": (8, 47),
    "thalamus": (10, 49),
    "caudate": (11, 50),
    "putamen": (12, 51),
    "pallidum": (13, 52),
    "hippocampus": (17, 53),
    "amygdala": (18, 54),
    "ventral diencephalon": (28, 60),
}
"""Label values of the left and right structure."""
MIDDLE = {14: "third ventricle", 15: "fourth ventricle", 16: "brain stem", 24: "cerebrospinal fluid"}
LEFT = {left: f"left {name}" for name, (left, _) in SIDES.items()}
RIGHT = {right: f"right {name}" for name, (_, right) in SIDES.items()}
STRUCTURES = dict(sorted((LEFT | RIGHT | MIDDLE).items()))
"""28 structures. The GVSL paper doesn't list its own; inferior lateral ventricles, accumbens, vessels and undetermined
voxels are left out here."""
VALUES = {value: value if value in STRUCTURES else 0 for value in range(1, 256)}
COUNTS = {"train": 40, "val": 20, "test": 43}
"""The split of the 103 cases in the GVSL paper (Table 2)."""
TREE = "HC_001/HC_001_procimg.nii.gz, HC_001/HC_001_seg.nii.gz and so on, for the groups " + ", ".join(GROUPS)


def candi(root: Path, fold: int | None = None) -> Dataset:
    """Load the scans of CANDI's four groups, at any depth below `root`.

    Args:
        root: folder with the subjects' folders.
        fold: of a five-fold cross-validation; by default the paper's split.

    Raises:
        UserError: `root` has no such files, or two of one case, or there is no such fold.
    """
    found = matching(root, [f"{group}_*_procimg.nii*" for group in GROUPS])
    images = by_id(((path.name.partition("_procimg")[0], path) for path in found), root)
    if not images:
        raise UserError(f"{root} is not CANDI: it should hold {TREE}")
    splits = draw_or_fold(list(images), COUNTS, fold)
    labels = {name: path.with_name(path.name.replace("_procimg", "_seg")) for name, path in images.items()}
    cases = [Case(name, path, labels[name], splits[name]) for name, path in images.items()]
    return Dataset(cases, STRUCTURES, "candi", VALUES)
