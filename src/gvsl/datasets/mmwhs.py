"""MM-WHS 2017, the CT half: hearts with seven structures (Zhuang and Shen 2016; task `shc`)."""

from pathlib import Path

from gvsl.cases import Case
from gvsl.datasets.dataset import Dataset
from gvsl.datasets.discovery import by_id
from gvsl.datasets.splits import drawn, one_fold
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
"""One release has voxels of 421, which are the left atrium."""
COUNTS = {"train": 15, "val": 5}
"""Of the 20 labelled cases (Table 2)."""
FOLDS = 5
TREE = (
    "ct_train/ct_train_1001_image.nii.gz, its ct_train_1001_label.nii.gz and so on, ct_test/ct_test_2001_image.nii.gz"
)


def mmwhs(root: Path, fold: int | None = None) -> Dataset:
    """The CT scans of MM-WHS, as its zip files unfold, at any depth below `root`.

    Args:
        root: the folder that holds ct_train and the folders of ct_test files.
        fold: of a five-fold cross-validation on the 20 labelled cases; the paper's 15 and 5 with the 40
            unlabelled ones as test split, if not given.

    Raises:
        UserError: `root` holds no such files, or two of one case, or there is no such fold.
    """
    labelled, unlabelled = (
        by_id(((_id(path), path) for path in sorted(root.rglob(f"{part}_*_image.nii*"))), root)
        for part in ("ct_train", "ct_test")
    )
    if not labelled:
        raise UserError(f"{root} is not MM-WHS's CT half: it should hold {TREE}")
    splits = drawn(list(labelled), COUNTS) if fold is None else one_fold(list(labelled), fold, FOLDS)
    cases = [Case(name, path, _label_of(path), splits[name]) for name, path in labelled.items()]
    tested = ("test",) if fold is None else ()
    cases += [Case(name, path, splits=tested) for name, path in unlabelled.items()]
    return Dataset(cases, STRUCTURES, "mmwhs", VALUES)


def _id(path: Path) -> str:
    return path.name.partition("_image")[0]


def _label_of(image: Path) -> Path:
    return image.with_name(image.name.replace("_image", "_label"))
