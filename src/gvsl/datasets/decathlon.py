"""A task of the Medical Segmentation Decathlon as its tar file unpacks (Antonelli et al. 2022)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gvsl.cases import Case, Dataset
from gvsl.datasets.channels import listed_channels, taken_channels
from gvsl.datasets.discovery import by_id
from gvsl.datasets.listing import entry, inside, names_of, read_listing
from gvsl.datasets.places import stem
from gvsl.datasets.splits import FRACTIONS, draw_or_fold
from gvsl.datasets.subjects import subjects_of
from gvsl.errors import UserError


def decathlon(root: Path, fold: int | None = None, channels: Sequence[str] = ()) -> Dataset:
    """Load the cases in `root`/dataset.json; the official test cases, without public labels, are in no split.

    The labelled cases are those listed under training and, as in AMOS, under validation.

    Args:
        root: folder of one task, such as Task04_Hippocampus.
        fold: of a five-fold cross-validation; by default the labelled cases are split 60, 20 and 20 %.
        channels: names or numbers of those to take from the images' fourth axis, or "all".

    Raises:
        UserError: dataset.json is missing, malformed or lists two images of one id, or images have several channels
            and none is asked for, or others.
    """
    listing = read_listing(root)
    entry(listing, "modality", dict, root)
    taken = taken_channels(listed_channels(listing, ("modality",), root), channels, root)
    training = [*entry(listing, "training", list, root), *_labelled(listing.get("validation"))]
    pairs = [(_path(item, "image", root), _path(item, "label", root)) for item in training]
    ids = list(by_id(((stem(image), image) for image, _ in pairs), root))
    if not ids:
        raise UserError(f"{root}/dataset.json lists no training cases")
    unlabelled = entry({"test": [], **listing}, "test", list, root)
    subjects = subjects_of(ids)
    splits = draw_or_fold(ids, FRACTIONS, fold, subjects)
    cases = [
        Case(stem(image), image, label, splits[stem(image)], subject=subjects.get(stem(image), ""))
        for image, label in pairs
    ]
    cases += [Case(stem(image), image) for image in (_path(item, "image", root) for item in unlabelled)]
    names = names_of(entry(listing, "labels", dict, root), root)
    return Dataset(cases, names, root.resolve().name, {value: value for value in names}, channels=taken)


def _labelled(items: Any) -> list[dict[str, Any]]:
    """Return the entries of a list that have an image and a label map."""
    found = items if isinstance(items, list) else []
    return [item for item in found if isinstance(item, dict) and {"image", "label"} <= item.keys()]


def _path(item: Any, kind: str, root: Path) -> Path:
    """Return the path in a list entry: a dictionary with image and label, or the name of a test image."""
    name = item.get(kind) if isinstance(item, dict) else item
    return inside(root, name)
