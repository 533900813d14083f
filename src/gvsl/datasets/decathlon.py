"""A task of the Medical Segmentation Decathlon, as its tar file unfolds (Antonelli et al. 2022)."""

from pathlib import Path
from typing import Any

from gvsl.cases import Case
from gvsl.datasets.dataset import Dataset
from gvsl.datasets.discovery import by_id, stem
from gvsl.datasets.listing import entry, inside, names_of, read_listing
from gvsl.datasets.splits import drawn, one_fold
from gvsl.errors import UserError

SHARES = {"train": 6, "val": 2, "test": 2}
"""Tenths of the labelled cases: the labels of the official test cases aren't public."""
FOLDS = 5


def decathlon(root: Path, fold: int | None = None) -> Dataset:
    """The cases that `root`/dataset.json lists; the official test cases, which have no public labels, are in no split.

    Args:
        root: the folder of one task, such as Task04_Hippocampus.
        fold: of a five-fold cross-validation; three fifths, one fifth and one fifth if not given.

    Raises:
        UserError: there is no dataset.json, it can't be understood or lists two images of one id, or its images have
            several channels.
    """
    listing = read_listing(root)
    modalities = entry(listing, "modality", dict, root)
    if len(modalities) != 1:
        raise UserError(
            f"{root} has {len(modalities)} channels an image ({', '.join(map(str, modalities.values()))}), gvsl takes "
            "one: write one of them to images of its own, and prepare those"
        )
    training = entry(listing, "training", list, root)
    pairs = [(_path(item, "image", root), _path(item, "label", root)) for item in training]
    ids = list(by_id(((stem(image), image) for image, _ in pairs), root))
    if not ids:
        raise UserError(f"{root}/dataset.json lists no training cases")
    splits = one_fold(ids, fold, FOLDS) if fold is not None else drawn(ids, _counts(len(ids)))
    cases = [Case(stem(image), image, label, splits[stem(image)]) for image, label in pairs]
    cases += [Case(stem(image), image) for image in (_path(item, "image", root) for item in listing.get("test", []))]
    names = names_of(entry(listing, "labels", dict, root), root)
    return Dataset(cases, names, root.resolve().name, {value: value for value in names})


def _counts(whole: int) -> dict[str, int]:
    return {name: share * whole for name, share in SHARES.items()}


def _path(item: Any, kind: str, root: Path) -> Path:
    """Of an entry of the list: a dictionary of image and label, or of a test image a name alone."""
    name = item.get(kind) if isinstance(item, dict) else item
    return inside(root, name)
