"""MM-WHS 2017, the CT half: hearts with seven structures (Zhuang and Shen 2016; task `shc`)."""

from pathlib import Path

from gvsl.cases import Case, Dataset
from gvsl.datasets.discovery import by_id
from gvsl.datasets.splits import draw_or_fold
from gvsl.datasets.tree import matching
from gvsl.errors import UserError

STRUCTURES = {
    205: "myocardium",
    420: "left atrium",
    500: "left ventricle",
    550: "right atrium",
    600: "right ventricle",
    820: "ascending aorta",
    850: "pulmonary artery",
}
VALUES = {**{value: value for value in STRUCTURES}, 421: 420}
"""One release has voxels of 421 in the left atrium."""
COUNTS = {"train": 15, "val": 5}
"""The split of the 20 labelled cases in the GVSL paper (Table 2)."""
TREE = (
    "ct_train/ct_train_1001_image.nii.gz, its ct_train_1001_label.nii.gz and so on, ct_test/ct_test_2001_image.nii.gz"
)


def mmwhs(root: Path, fold: int | None = None) -> Dataset:
    """Load the CT scans of MM-WHS as its zip files unpack, at any depth below `root`.

    Args:
        root: folder with ct_train and the folders of ct_test files.
        fold: of a five-fold cross-validation on the 20 labelled cases; by default the paper's split, with the 40
            unlabelled cases as test split.

    Raises:
        UserError: `root` has no such files, or two of one case, or there is no such fold.
    """
    labelled, unlabelled = (
        by_id(((path.name.partition("_image")[0], path) for path in matching(root, [f"{part}_*_image.nii*"])), root)
        for part in ("ct_train", "ct_test")
    )
    if not labelled:
        raise UserError(f"{root} is not MM-WHS's CT half: it should hold {TREE}")
    splits = draw_or_fold(list(labelled), COUNTS, fold)
    labels = {name: path.with_name(path.name.replace("_image", "_label")) for name, path in labelled.items()}
    cases = [Case(name, path, labels[name], splits[name]) for name, path in labelled.items()]
    cases += [Case(name, path, splits=("test",) if fold is None else ()) for name, path in unlabelled.items()]
    return Dataset(cases, STRUCTURES, "mmwhs", VALUES)
