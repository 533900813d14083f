"""A raw dataset of nnU-Net, versions 1 and 2 (Isensee et al. 2021)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gvsl.cases import Case, Dataset, SourceChannel
from gvsl.datasets.channels import listed_channels, put_together, taken_channels
from gvsl.datasets.discovery import by_id, files_in
from gvsl.datasets.listing import entry, inside, is_file_name, names_of, read_json, read_listing
from gvsl.datasets.names import normal
from gvsl.datasets.places import stem
from gvsl.datasets.splits import FRACTIONS, drawn
from gvsl.datasets.subjects import subjects_of
from gvsl.errors import UserError
from gvsl.text import few

SPLITS_NAME = "splits_final.json"
CHANNEL = "_0000"
CHANNEL_END = re.compile(r"_000\d")
WITHIN_FOLD = {"train": 3, "val": 1}
"""Split of a fold's training cases: its validation cases are the test split here, so others must select weights."""


def nnunet(root: Path, fold: int | None = None, allow_leakage: bool = False, channels: Sequence[str] = ()) -> Dataset:
    """Load the cases of imagesTr and labelsTr, or those in dataset.json; the cases of imagesTs are in no split.

    Args:
        root: folder such as nnUNet_raw/Dataset004_Hippocampus, with dataset.json.
        fold: of splits_final.json in `root`: its validation cases become the test split, a quarter of its training
            cases the validation split. By default the labelled cases are split 60, 20 and 20 %.
        allow_leakage: accept a fold with cases of one subject in both train and val.
        channels: names or numbers of those to take, or "all".

    Raises:
        UserError: dataset.json is missing, it or splits_final.json is malformed, images have several channels and none
            is asked for, or others, or a fold divides a subject without `allow_leakage`.
    """
    listing = read_listing(root)
    listed = listed_channels(listing, ("channel_names", "modality"), root)
    taken = taken_channels(listed, channels, root)
    ending = listing.get("file_ending", ".nii.gz")
    if not isinstance(ending, str) or not ending.startswith("."):
        raise UserError(f"{root}/dataset.json should have a file_ending such as .nii.gz, not {ending!r}")
    names = names_of(_by_value(entry(listing, "labels", dict, root), root), root)
    if "dataset" in listing:
        training = _listed(entry(listing, "dataset", dict, root), root, taken, len(listed))
    else:
        images = _images(root / "imagesTr", ending, taken)
        maps = {normal(path.name): path for path in files_in(root / "labelsTr", (ending.lower(),))}
        wanted = {name: root / "labelsTr" / f"{name}{ending}" for name in images}
        training = {
            name: replace(
                case,
                label=wanted[name] if wanted[name].exists() else maps.get(normal(wanted[name].name), wanted[name]),
            )
            for name, case in images.items()
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
        replace(case, splits=splits.get(name, ()), subject=subjects.get(name, "")) for name, case in training.items()
    ]
    cases += _images(root / "imagesTs", ending, taken).values()
    return Dataset(cases, names, root.resolve().name, {value: value for value in names}, channels=taken)


def _images(folder: Path, ending: str, taken: Sequence[SourceChannel]) -> dict[str, Case]:
    """Return the images of a folder by their names, each with its channels; one that lacks some is unusable."""
    suffix = f"{CHANNEL}{ending}".lower()
    if not taken:
        found = ((path.name[: -len(suffix)], path) for path in files_in(folder, (suffix,)))
        return {name: Case(name, path) for name, path in by_id(found, folder.parent).items()}
    files = files_in(folder, (ending.lower(),))
    parts = [Case(path.name[: -len(ending)], path) for path in files]
    numbers = [replace(channel, name=f"{channel.number:04}") for channel in taken]
    return {case.id: case for case in put_together(parts, numbers) if case.channels or case.unusable}


def _listed(dataset: dict[str, Any], root: Path, taken: Sequence[SourceChannel], count: int) -> dict[str, Case]:
    """Return image and label map of each case listed in dataset.json, as version 2 allows."""
    what, more = ("an image of one channel", "") if count == 1 else (f"{count} images, one per channel,", ", ...")
    found = {}
    for name, item in dataset.items():
        if not is_file_name(name):
            raise UserError(f"{root}/dataset.json lists {name!r} under dataset, which is no file name: rename it")
        images = item.get("images") if isinstance(item, dict) else None
        if not isinstance(images, list) or len(images) != count or "label" not in item:
            raise UserError(
                f"{root}/dataset.json should list under dataset {what} and a label map for {name}, like "
                f'{{"images": ["x.nii.gz"{more}], "label": "y.nii.gz"}}'
            )
        paths = [inside(root, image) for image in images]
        parts = tuple(Case(f"{name}_{each.number:04}", paths[each.number]) for each in taken)
        image = parts[0].image if parts else paths[0]
        ends = [stem(path)[-5:] for path in paths]
        wrong = taken and any(CHANNEL_END.fullmatch(end) and int(end[1:]) != at for at, end in enumerate(ends))
        why = f"is listed with its channels in another order: {', '.join(path.name for path in paths)}" if wrong else ""
        found[name] = Case(name, image, inside(root, item["label"]), channels=parts, unusable=why)
    return found


def _by_value(labels: dict[str, Any], root: Path) -> dict[str, Any]:
    """Return labels as in version 1, name by value; version 2 has value by name."""
    if all(isinstance(value, str) for value in labels.values()):
        return labels
    if not all(type(value) is int for value in labels.values()):
        raise UserError(f"{root}/dataset.json has regions of several labels; gvsl takes one value per structure")
    if len(set(labels.values())) < len(labels):
        raise UserError(f"{root}/dataset.json gives two labels one value: give each its own, or leave one out")
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
            f"{path} has cases of one subject in both train and val of fold {number}: {few(sorted(both))}; move "
            "them to one side, or give --allow-leakage"
        )
    return {**drawn(train, WITHIN_FOLD, subjects), **dict.fromkeys(val, ("test",))}
