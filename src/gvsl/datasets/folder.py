"""Any folder of volume files or DICOM series, with or without labels and splits."""

from dataclasses import replace
from pathlib import Path

from gvsl.cases import SPLITS, Case, Dataset
from gvsl.datasets.discovery import FORMATS, by_id, file_id, files_below, find_volumes
from gvsl.datasets.listing import read_json
from gvsl.errors import UserError
from gvsl.io import VOLUME_SUFFIXES
from gvsl.text import few

HELD_OUT = ("val", "test")
MAX_DIGITS = 10
"""Label values fit 16 bits."""
NAMED = 3
"""Maximum number of ids in a message."""


def folder(root: Path, allow_leakage: bool = False) -> Dataset:
    """Load the cases of a folder of volumes.

    NIfTI, NRRD and MetaImage files and DICOM series lie at any depth in `root`/images, or in `root` itself if that is
    missing. `root`/labels may have label maps of the same names, splits.json lists of ids for pretrain, train, val
    and test, labels.json a name for each label value, and classes.json the image-level label, 0 or 1, of each id.
    Without splits.json every case is in pretrain; with it, unlisted cases are in no split. Ids are the folder names
    below and the file name, joined by "_"; of a DICOM series the folder names, with its SeriesInstanceUID if there
    are several in the folder.

    Args:
        root: the folder.
        allow_leakage: accept cases of val or test that are in another split too.

    Raises:
        UserError: `root` is missing or has no volume, a JSON file is malformed, splits or classes list unknown cases,
            or val and test overlap with each other or with pretrain and train without `allow_leakage`.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder; name a folder of volumes ({FORMATS})")
    images = root / "images" if (root / "images").is_dir() else root
    maps = root / "labels"
    found, strays = find_volumes(images, maps)
    labels = by_id(((file_id(path, maps), path) for path in files_below(maps, VOLUME_SUFFIXES)), maps)
    present = {case.id for case in found}
    splits = _read_splits(root / "splits.json", present, allow_leakage)
    targets = _read_targets(root / "classes.json", present)
    # Unreadable files and label maps without an image become cases too, so that they are refused by name.
    cases = [*found, *strays]
    orphans = sorted(labels.keys() - {case.id for case in cases})
    cases += [Case(orphan, images / labels[orphan].relative_to(maps)) for orphan in orphans]
    cases = [
        replace(case, label=labels.get(case.id), splits=_splits_of(case.id, splits), target=targets.get(case.id))
        for case in cases
    ]
    return Dataset(cases, _read_label_names(root / "labels.json"), root.resolve().name)


def _splits_of(case_id: str, splits: dict[str, set[str]] | None) -> tuple[str, ...]:
    if splits is None:
        return ("pretrain",)
    return tuple(name for name in SPLITS if case_id in splits.get(name, ()))


def _read_splits(path: Path, present: set[str], allow_leakage: bool) -> dict[str, set[str]] | None:
    if not path.exists():
        return None
    found = read_json(path)
    if not isinstance(found, dict) or not all(
        isinstance(ids, list) and all(isinstance(item, str) for item in ids) for ids in found.values()
    ):
        raise UserError(f'{path} must hold lists of ids by split, like {{"pretrain": ["a", "b"], "test": ["c"]}}')
    for name, ids in found.items():
        if name not in SPLITS:
            raise UserError(f"{path} has a split {name!r}; the splits are {', '.join(SPLITS)}")
        missing = sorted(set(ids) - present)
        if missing:
            raise UserError(f"{path} names cases in {name} that have no image: {few(missing, NAMED)}")
    splits = {name: set(ids) for name, ids in found.items()}
    if not allow_leakage:
        _refuse_leakage(path, splits)
    return splits


def _refuse_leakage(path: Path, splits: dict[str, set[str]]) -> None:
    fix = "take them out of one, or give --allow-leakage"
    trained = splits.get("pretrain", set()) | splits.get("train", set())
    for name in HELD_OUT:
        both = sorted(splits.get(name, set()) & trained)
        if both:
            raise UserError(f"{path} has cases of {name} in pretrain or train too: {few(both, NAMED)}; {fix}")
    both = sorted(splits.get("val", set()) & splits.get("test", set()))
    if both:
        raise UserError(f"{path} has cases in both val and test: {few(both, NAMED)}; {fix}")


def _read_label_names(path: Path) -> dict[int, str]:
    if not path.exists():
        return {}
    found = read_json(path)
    names: dict[int, object] = {0: None}
    if isinstance(found, dict) and all(value.lstrip("-").isdecimal() and len(value) < MAX_DIGITS for value in found):
        names = {int(value): name for value, name in found.items()}
    if not all(isinstance(name, str) and name for name in names.values()):
        raise UserError(f'{path} must name label values, like {{"1": "anterior", "2": "posterior"}}')
    return {value: str(name) for value, name in names.items() if value != 0}


def _read_targets(path: Path, present: set[str]) -> dict[str, int]:
    if not path.exists():
        return {}
    found = read_json(path)
    if not isinstance(found, dict) or not all(type(value) is int and value in (0, 1) for value in found.values()):
        raise UserError(f'{path} must hold a class, 0 or 1, by id, like {{"a": 0, "b": 1}}')
    missing = sorted(found.keys() - present)
    if missing:
        raise UserError(f"{path} names cases that have no image: {few(missing, NAMED)}")
    return found
