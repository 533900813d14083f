"""A raw dataset of nnU-Net, versions 1 and 2 (Isensee et al. 2021)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gvsl.cases import Case, Dataset
from gvsl.datasets.discovery import files_in
from gvsl.datasets.listing import entry, inside, names_of, read_json, read_listing
from gvsl.datasets.names import normal
from gvsl.datasets.splits import FRACTIONS, drawn
from gvsl.datasets.subjects import NAMED, subjects_of
from gvsl.errors import UserError
from gvsl.text import few

SPLITS_NAME = "splits_final.json"
CHANNEL = "_0000"
WITHIN_FOLD = {"train": 3, "val": 1}
"""Split of a fold's training cases: its validation cases are the test split here, so others must select weights."""


def nnunet(root: Path, fold: int | None = None, allow_leakage: bool = False) -> Dataset:
    """Load the cases of imagesTr and labelsTr, or those in dataset.json; the cases of imagesTs are in no split.

    Args:
        root: folder such as nnUNet_raw/Dataset004_Hippocampus, with dataset.json.
        fold: of splits_final.json in `root`: its validation cases become the test split, a quarter of its training
            cases the validation split. By default the labelled cases are split 60, 20 and 20 %.
        allow_leakage: accept a fold with cases of one subject in both train and val.

    Raises:
        UserError: dataset.json is missing, it or splits_final.json is malformed, images have several channels, or a
            fold divides a subject without `allow_leakage`.
    """
    listing = read_listing(root)
    channels = listing.get("channel_names", listing.get("modality"))
    if not isinstance(channels, dict) or len(channels) != 1:
        count = len(channels) if isinstance(channels, dict) else "no"
        raise UserError(f"{root} has {count} channels per image; gvsl takes one: write one of them to a folder")
    ending = listing.get("file_ending", ".nii.gz")
    if not isinstance(ending, str) or not ending.startswith("."):
        raise UserError(f"{root}/dataset.json should have a file_ending such as .nii.gz, not {ending!r}")
    names = names_of(_by_value(entry(listing, "labels", dict, root), root), root)
    if "dataset" in listing:
        training = _listed(entry(listing, "dataset", dict, root), root)
    else:
        images = _images(root / "imagesTr", ending)
        maps = {normal(path.name): path for path in files_in(root / "labelsTr", (ending.lower(),))}
        wanted = {name: root / "labelsTr" / f"{name}{ending}" for name in images}
        training = {
            name: (image, wanted[name] if wanted[name].exists() else maps.get(normal(wanted[name].name), wanted[name]))
            for name, image in images.items()
        }
    if not training:
        raise UserError(f"{root} is no raw dataset of nnU-Net: it should have imagesTr/CASE{CHANNEL}{ending}")
    ids = list(training)
    subjects = subjects_of(ids)
    if fold is None:
        splits = drawn(ids, FRACTIONS, subjects)
    else:
        splits = _fold(root / SPLITS_NAME, fold, ids, {} if allow_leakage else subjects)
    cases = [
        Case(name, image, label, splits.get(name, ()), subject=subjects.get(name, ""))
        for name, (image, label) in training.items()
    ]
    cases += [Case(name, image) for name, image in _images(root / "imagesTs", ending).items()]
    return Dataset(cases, names, root.resolve().name, {value: value for value in names})


def _images(folder: Path, ending: str) -> dict[str, Path]:
    suffix = f"{CHANNEL}{ending}".lower()
    return {path.name[: -len(suffix)]: path for path in files_in(folder, (suffix,))}


def _listed(dataset: dict[str, Any], root: Path) -> dict[str, tuple[Path, Path]]:
    """Return image and label map of each case listed in dataset.json, as version 2 allows."""
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
    """Return labels as in version 1, name by value; version 2 has value by name."""
    if all(isinstance(value, str) for value in labels.values()):
        return labels
    if not all(type(value) is int for value in labels.values()):
        raise UserError(f"{root}/dataset.json has regions of several labels; gvsl takes one value per structure")
    return {str(value): name for name, value in labels.items()}


def _fold(path: Path, number: int, ids: list[str], subjects: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    if not path.exists():
        raise UserError(f"there is no {path} with the folds: copy it from nnU-Net's preprocessed folder")
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
    both = {subjects.get(case_id, "") for case_id in train} & {subjects.get(case_id, "") for case_id in val} - {""}
    if both:
        raise UserError(
            f"{path} has cases of one subject in both train and val of fold {number}: {few(sorted(both), NAMED)}; move "
            "them to one side, or give --allow-leakage"
        )
    return {**drawn(train, WITHIN_FOLD, subjects), **dict.fromkeys(val, ("test",))}
