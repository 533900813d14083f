"""The layout of TotalSegmentator: a folder per subject, a binary map per structure (Wasserthal et al. 2023)."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from gvsl.cases import Case, Dataset, is_ignored
from gvsl.datasets.discovery import by_id, files_in
from gvsl.datasets.listing import one_row_each, read_label_names
from gvsl.datasets.places import stem
from gvsl.datasets.splits import FRACTIONS, draw_or_fold
from gvsl.errors import UserError
from gvsl.io import VOLUME_SUFFIXES, maps_in, name_key
from gvsl.readers import read_bytes
from gvsl.text import few

IMAGES = ("ct", "mri")
"""Names of a subject's image, without suffix."""
MAPS = "segmentations"
LABELS_NAME, TABLE = "labels.json", "meta.csv"
COLUMNS = ("image_id", "split")
SPLITS_OF = {"train": ("pretrain", "train"), "val": ("val",), "test": ("test",)}
"""Splits by their name in the table."""
TREE = "s0000/ct.nii.gz, s0000/segmentations/aorta.nii.gz and so on"


def totalsegmentator(root: Path, fold: int | None = None) -> Dataset:
    """Load the subjects of TotalSegmentator, or others in its layout; their binary maps are joined into label maps.

    Structures are named after their files, and numbered from 1 in the alphabetical order of all names in the cohort;
    `root`/labels.json, if there is one, says instead which are taken and which value each gets. A subject that lacks a
    map of these is refused. A subject without any is for pre-training.

    Args:
        root: folder with a folder per subject, and perhaps meta.csv with their splits.
        fold: of a five-fold cross-validation on the labelled subjects; by default the splits of meta.csv, and without
            that 60, 20 and 20 %.

    Raises:
        UserError: `root` has no such folders, a file of its is malformed, or labels.json names a structure that no
            subject has.
    """
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    found = [(path.parent.name, path) for each in folders for path in files_in(each, VOLUME_SUFFIXES)]
    images = by_id(((name, path) for name, path in found if stem(path).lower() in IMAGES), root)
    maps = {name: {name_key(one): one for one in maps_in(path.parent / MAPS)} for name, path in images.items()}
    labelled = [name for name in images if maps[name]]
    if not labelled:
        raise UserError(f"{root} has no binary maps as TotalSegmentator: it should hold {TREE}")
    spelled = {key: one for name in reversed(labelled) for key, one in maps[name].items()}
    names = _label_names(root / LABELS_NAME, spelled)
    if fold is None and (root / TABLE).exists():
        splits = _read_splits(root / TABLE)
    else:
        splits = draw_or_fold(labelled, FRACTIONS, fold)
        splits |= {name: ("pretrain",) for name in images if name not in labelled}
    cases = [
        Case(
            name,
            path,
            path.parent / MAPS if maps[name] else None,
            splits.get(name, ()),
            unusable=_lacks(names, maps[name]) if maps[name] else "",
        )
        for name, path in images.items()
    ]
    return Dataset(cases, names, root.resolve().name, {value: value for value in names})


def _label_names(path: Path, found: Mapping[str, str]) -> dict[int, str]:
    """Return the structures by value: those in labels.json, or all, given by their keys."""
    if not path.exists():
        return {value: found[key] for value, key in enumerate(sorted(found), start=1)}
    names = read_label_names(path)
    unknown = [name for name in names.values() if name_key(name) not in found and not is_ignored(name)]
    if unknown or not names:
        raise UserError(
            f"{path} names {few(unknown) if unknown else 'no structure'}; of these no subject has a map in "
            f"{MAPS}, which has {few(sorted(found))}"
        )
    return names


def _lacks(names: Mapping[int, str], own: Mapping[str, str]) -> str:
    """Return why a subject is refused that lacks maps; empty if it has all."""
    missing = [name for name in names.values() if name_key(name) not in own and not is_ignored(name)]
    if not missing:
        return ""
    return (
        f"lacks the map of {few(missing)} in {MAPS}, which other subjects have: add it, empty where the image "
        f"has none of it, or list in {LABELS_NAME} the structures that all have"
    )


def _read_splits(path: Path) -> dict[str, tuple[str, ...]]:
    try:
        text = read_bytes(path).decode("utf-8-sig")
        separator = ";" if ";" in text.partition("\n")[0] else ","
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=separator))
        read = [(str(row[COLUMNS[0]]).strip(), str(row[COLUMNS[1]]).strip().lower()) for row in rows]
    except (OSError, ValueError, csv.Error, KeyError):
        raise UserError(f"{path} should be a table with the columns {' and '.join(COLUMNS)}") from None
    found = one_row_each(read, path)
    odd = sorted(set(found.values()) - SPLITS_OF.keys())
    if odd or not found:
        raise UserError(
            f"{path} should have {', '.join(SPLITS_OF)} in the column {COLUMNS[1]}, not {odd[0] if odd else 'no row'!r}"
        )
    return {name: SPLITS_OF[split] for name, split in found.items()}
