"""A raw dataset of nnU-Net, versions 1 and 2 (Isensee et al. 2021)."""

from pathlib import Path
from typing import Any

from gvsl.cases import Case
from gvsl.datasets.dataset import Dataset
from gvsl.datasets.discovery import files_in
from gvsl.datasets.listing import entry, inside, names_of, read_json, read_listing
from gvsl.datasets.splits import drawn
from gvsl.errors import UserError

SPLITS_NAME = "splits_final.json"
CHANNEL = "_0000"
IGNORED = "ignore"
"""What version 2 calls the voxels that nobody labelled."""
SHARES = {"train": 6, "val": 2, "test": 2}
"""Tenths of the labelled cases, where no fold is asked for."""
WITHIN_FOLD = {"train": 3, "val": 1}
"""Quarters of what a fold trains on: nnU-Net's validation cases are tested here, so others have to choose weights."""


def nnunet(root: Path, fold: int | None = None) -> Dataset:
    """The cases of imagesTr and labelsTr, or those that dataset.json lists; those of imagesTs are in no split.

    Args:
        root: a folder such as nnUNet_raw/Dataset004_Hippocampus, with dataset.json.
        fold: of splits_final.json, which has to lie in `root`: its validation cases become the test split, a
            quarter of its training cases the validation split. Without it, three fifths, one fifth and one fifth.

    Raises:
        UserError: there is no dataset.json, it or splits_final.json can't be understood, images have several
            channels, or label maps have voxels that are to be ignored.
    """
    listing = read_listing(root)
    channels = listing.get("channel_names", listing.get("modality"))
    if not isinstance(channels, dict) or len(channels) != 1:
        count = len(channels) if isinstance(channels, dict) else "no"
        raise UserError(f"{root} has {count} channels an image, gvsl takes one: write one of them to a folder")
    ending = listing.get("file_ending", ".nii.gz")
    if not isinstance(ending, str) or not ending.startswith("."):
        raise UserError(f"{root}/dataset.json should have a file_ending such as .nii.gz, not {ending!r}")
    names = names_of(_by_value(entry(listing, "labels", dict, root), root), root)
    if "dataset" in listing:
        training = _listed(entry(listing, "dataset", dict, root), root)
    else:
        images = _images(root / "imagesTr", ending)
        training = {name: (image, root / "labelsTr" / f"{name}{ending}") for name, image in images.items()}
    if not training:
        raise UserError(f"{root} is no raw dataset of nnU-Net: it should hold imagesTr/CASE{CHANNEL}{ending}")
    ids = list(training)
    splits = drawn(ids, {name: share * len(ids) for name, share in SHARES.items()})
    if fold is not None:
        splits = _fold(root / SPLITS_NAME, fold, ids)
    cases = [Case(name, image, label, splits.get(name, ())) for name, (image, label) in training.items()]
    cases += [Case(name, image) for name, image in _images(root / "imagesTs", ending).items()]
    return Dataset(cases, names, root.resolve().name, {value: value for value in names})


def _images(place: Path, ending: str) -> dict[str, Path]:
    suffix = f"{CHANNEL}{ending}".lower()
    return {path.name[: -len(suffix)]: path for path in files_in(place, (suffix,))}


def _listed(dataset: dict[str, Any], root: Path) -> dict[str, tuple[Path, Path]]:
    """Image and label map of each case that dataset.json lists itself, as version 2 may."""
    found = {}
    for name, item in dataset.items():
        images = item.get("images") if isinstance(item, dict) else None
        if not isinstance(images, list) or len(images) != 1 or "label" not in item:
            raise UserError(
                f"{root}/dataset.json should list under dataset an image of one channel and a label map for {name}, "
                'like {"images": ["x.nii.gz"], "label": "y.nii.gz"}'
            )
        found[name] = inside(root, images[0]), inside(root, item["label"])
    return found


def _by_value(labels: dict[str, Any], root: Path) -> dict[str, Any]:
    """Labels as version 1 has them, value to name; version 2 has name to value."""
    if all(isinstance(value, str) for value in labels.values()):
        return labels
    if IGNORED in labels:
        raise UserError(
            f"{root}/dataset.json has a label {IGNORED} ({labels[IGNORED]}), which is no structure, and gvsl can't "
            "leave voxels out: take it out of labels, and out of the label maps"
        )
    if not all(type(value) is int for value in labels.values()):
        raise UserError(f"{root}/dataset.json has regions of several labels; gvsl takes one value a structure")
    return {str(value): name for name, value in labels.items()}


def _fold(path: Path, number: int, ids: list[str]) -> dict[str, tuple[str, ...]]:
    if not path.exists():
        raise UserError(f"there is no {path}, which has the folds: copy it from nnU-Net's preprocessed folder")
    folds = read_json(path)
    if not isinstance(folds, list) or not 0 <= number < len(folds):
        count = len(folds) if isinstance(folds, list) else "no"
        raise UserError(f"there is no fold {number}: {path} has {count}")
    chosen = folds[number]
    parts = [chosen.get(name) if isinstance(chosen, dict) else None for name in ("train", "val")]
    if not all(isinstance(part, list) and set(map(str, part)) <= set(ids) for part in parts):
        raise UserError(f"{path} should have lists of cases of imagesTr under train and val")
    train, val = ([str(case_id) for case_id in part or []] for part in parts)
    if set(train) & set(val):
        raise UserError(f"{path} has cases in both train and val of fold {number}")
    return {**drawn(train, WITHIN_FOLD), **dict.fromkeys(val, ("test",))}
