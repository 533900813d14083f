"""Any folder of NIfTI files, with or without labels and splits."""

import json
from pathlib import Path

from gvsl.datasets.dataset import Dataset
from gvsl.errors import UserError
from gvsl.types import SPLITS, Case

READABLE = (".nii.gz", ".nii")
OTHER_VOLUMES = (".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".hdr", ".dcm")
HELD_OUT = ("val", "test")
NAMED = 3
"""How many of many ids a message names."""


def folder(root: Path) -> Dataset:
    """The cases of a folder of NIfTI files.

    Either `root` holds the files themselves, or they lie in `root`/images. Then `root`/labels may hold label
    maps of the same names, `root`/splits.json lists of ids for pretrain, train, val and test, `root`/labels.json
    a name for each label value, and `root`/classes.json the class of each image, 0 or 1, by its id. Without
    splits.json every case is in pretrain; with it, a case that it doesn't name is in no split. The file names are
    the ids.

    Raises:
        UserError: `root` is missing or holds no NIfTI file, splits.json, labels.json or classes.json can't be
            understood, splits or classes name a case that is not there, or a case of val or test is also in
            pretrain or train.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder; name a folder of .nii or .nii.gz files")
    place = root / "images" if (root / "images").is_dir() else root
    files = _files(place, READABLE)
    if not files:
        raise UserError(_nothing_in(place))
    labels = {} if place == root else _by_stem(_files(root / "labels", READABLE))
    splits = _read_splits(root / "splits.json", {_stem(path) for path in files})
    targets = _read_targets(root / "classes.json", {_stem(path) for path in files})
    # Volumes in other formats, and label maps without an image, become cases too, so that they are refused by
    # name.
    files += _files(place, OTHER_VOLUMES)
    orphans = sorted(labels.keys() - {_stem(path) for path in files})
    files += [place / labels[stem].name for stem in orphans]
    cases = [
        Case(stem, path, labels.get(stem), _splits_of(stem, splits), targets.get(stem))
        for stem, path in ((_stem(path), path) for path in files)
    ]
    return Dataset(cases, _read_label_names(root / "labels.json"), root.resolve().name)


def _files(place: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files of a folder that end so, sorted; hidden files are left out."""
    if not place.is_dir():
        return []
    visible = (path for path in place.iterdir() if not path.name.startswith("."))
    return sorted(path for path in visible if path.name.lower().endswith(suffixes) and not path.is_dir())


def _stem(path: Path) -> str:
    ending = next((suffix for suffix in READABLE if path.name.lower().endswith(suffix)), path.suffix)
    return path.name[: len(path.name) - len(ending)]


def _by_stem(paths: list[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        other = found.setdefault(_stem(path), path)
        if other != path:
            raise UserError(f"{path.parent} holds both {other.name} and {path.name}; remove one of them")
    return found


def _splits_of(case_id: str, splits: dict[str, set[str]] | None) -> tuple[str, ...]:
    if splits is None:
        return ("pretrain",)
    return tuple(name for name in SPLITS if case_id in splits.get(name, ()))


def _nothing_in(place: Path) -> str:
    below = next((path for suffix in READABLE for path in place.rglob(f"*{suffix}")), None)
    if below is not None:
        return f"{place} holds no .nii or .nii.gz file itself, but {below.parent} does; name that folder"
    others = _files(place, OTHER_VOLUMES)
    if others:
        return f"{place} holds no .nii or .nii.gz file; convert {others[0].name} and the others to NIfTI first"
    return f"{place} holds no .nii or .nii.gz file; name a folder of volumes"


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{path} can't be read as JSON: {error}") from None


def _read_splits(path: Path, present: set[str]) -> dict[str, set[str]] | None:
    if not path.exists():
        return None
    found = _read_json(path)
    if not isinstance(found, dict) or not all(
        isinstance(ids, list) and all(isinstance(item, str) for item in ids) for ids in found.values()
    ):
        raise UserError(f'{path} must hold lists of ids by split, like {{"pretrain": ["a", "b"], "test": ["c"]}}')
    for name, ids in found.items():
        if name not in SPLITS:
            raise UserError(f"{path} has a split {name!r}; the splits are {', '.join(SPLITS)}")
        missing = sorted(set(ids) - present)
        if missing:
            raise UserError(f"{path} names cases in {name} that have no image: {_few(missing)}")
    splits = {name: set(ids) for name, ids in found.items()}
    trained = splits.get("pretrain", set()) | splits.get("train", set())
    for name in HELD_OUT:
        both = sorted(splits.get(name, set()) & trained)
        if both:
            raise UserError(f"{path} has cases of {name} in pretrain or train too: {_few(both)}; take them out of one")
    both = sorted(splits.get("val", set()) & splits.get("test", set()))
    if both:
        raise UserError(f"{path} has cases in both val and test: {_few(both)}; take them out of one")
    return splits


def _read_label_names(path: Path) -> dict[int, str]:
    if not path.exists():
        return {}
    found = _read_json(path)
    names: dict[int, object] = {0: None}
    if isinstance(found, dict) and all(value.lstrip("-").isdecimal() for value in found):
        names = {int(value): name for value, name in found.items()}
    if not all(isinstance(name, str) and name for name in names.values()):
        raise UserError(f'{path} must name label values, like {{"1": "anterior", "2": "posterior"}}')
    return {value: str(name) for value, name in names.items() if value != 0}


def _read_targets(path: Path, present: set[str]) -> dict[str, int]:
    if not path.exists():
        return {}
    found = _read_json(path)
    if not isinstance(found, dict) or not all(type(value) is int and value in (0, 1) for value in found.values()):
        raise UserError(f'{path} must hold a class, 0 or 1, by id, like {{"a": 0, "b": 1}}')
    missing = sorted(found.keys() - present)
    if missing:
        raise UserError(f"{path} names cases that have no image: {_few(missing)}")
    return found


def _few(ids: list[str]) -> str:
    return ", ".join(ids[:NAMED]) + (f" and {len(ids) - NAMED} more" if len(ids) > NAMED else "")
