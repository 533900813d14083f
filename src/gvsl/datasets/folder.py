"""Any folder of volumes in files or DICOM series, with or without labels and splits."""

import json
import os
from collections import Counter
from pathlib import Path

from gvsl.datasets.dataset import Dataset
from gvsl.errors import UserError
from gvsl.io import COMPANION_SUFFIXES, VOLUME_SUFFIXES, find_series
from gvsl.types import SPLITS, Case

OTHER_VOLUMES = (".mgz", ".mgh")
"""What can't be read, and is refused by name."""
DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")
"""What DICOM files may be called; most are called nothing in particular."""
NO_DICOM = (*VOLUME_SUFFIXES, *COMPANION_SUFFIXES, *OTHER_VOLUMES, ".json", ".b2nd")
FORMATS = "NIfTI, NRRD, MetaImage or DICOM"
HELD_OUT = ("val", "test")
NAMED = 3
"""How many of many ids a message names."""


def folder(root: Path) -> Dataset:
    """The cases of a folder of volumes.

    Either `root` holds the files itself, or they lie in `root`/images: NIfTI, NRRD or MetaImage files, and DICOM
    series at any depth. Then `root`/labels may hold label maps of the same names, `root`/splits.json lists of ids
    for pretrain, train, val and test, `root`/labels.json a name for each label value, and `root`/classes.json the
    class of each image, 0 or 1, by its id. Without splits.json every case is in pretrain; with it, a case that it
    doesn't name is in no split. The file names are the ids; a DICOM series has the names of the folders that lead to
    it, joined by "_", and its SeriesInstanceUID behind that where its folder holds other series too.

    Raises:
        UserError: `root` is missing or holds no volume, splits.json, labels.json or classes.json can't be
            understood, splits or classes name a case that is not there, or a case of val or test is also in
            pretrain or train.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder; name a folder of volumes ({FORMATS})")
    place = root / "images" if (root / "images").is_dir() else root
    images = [Case(_stem(path), path) for path in _files(place, VOLUME_SUFFIXES)]
    series, strays = _series(place)
    if not images and not series:
        raise UserError(_nothing_in(place, strays))
    labels = {} if place == root else _by_stem(_files(root / "labels", VOLUME_SUFFIXES))
    present = {case.id for case in (*images, *series)}
    splits = _read_splits(root / "splits.json", present)
    targets = _read_targets(root / "classes.json", present)
    # Volumes in other formats, and label maps without an image, become cases too, so that they are refused by
    # name.
    stems = {case.id for case in images}
    strays += _files(place, OTHER_VOLUMES)
    strays += [path for path in _files(place, (".img", ".img.gz")) if _stem(path) not in stems]
    cases = [*images, *series, *(Case("_".join(path.relative_to(place).parts), path) for path in sorted(strays))]
    orphans = sorted(labels.keys() - {case.id for case in cases})
    cases += [Case(stem, place / labels[stem].name) for stem in orphans]
    cases = [
        Case(case.id, case.image, labels.get(case.id), _splits_of(case.id, splits), targets.get(case.id), case.parts)
        for case in cases
    ]
    return Dataset(cases, _read_label_names(root / "labels.json"), root.resolve().name)


def _series(place: Path) -> tuple[list[Case], list[Path]]:
    """A case for each DICOM series in a folder and below it, and the files that are DICOM by their name alone.

    Series that hold no volume are cases too: they are refused when they are read.
    """
    files = []
    for folder, below, names in os.walk(place):
        below[:] = [name for name in below if not name.startswith(".") and Path(folder, name) != place / "labels"]
        visible = (name for name in names if not name.startswith("."))
        files += [Path(folder, name) for name in visible if not name.lower().endswith(NO_DICOM)]
    found = find_series(sorted(files))
    homes = {uid: Path(os.path.commonpath([path.parent for path in paths])) for uid, paths in found.items()}
    count = Counter(homes.values())
    above = {parent for home in count for parent in home.parents}
    cases = []
    for uid, paths in found.items():
        home = homes[uid]
        alone = count[home] == 1 and home not in above and count.keys().isdisjoint(home.parents)
        name = "_".join(home.relative_to(place).parts) or place.resolve().name
        parts = () if alone else tuple(path.relative_to(home).as_posix() for path in paths)
        cases.append(Case(name if alone else f"{name}_{uid}", home, parts=parts))
    taken = {path for paths in found.values() for path in paths}
    strays = [path for path in files if path not in taken and path.name.lower().endswith(DICOM_SUFFIXES)]
    return sorted(cases, key=lambda case: case.id), strays


def _files(place: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files of a folder that end so, sorted; hidden files are left out."""
    if not place.is_dir():
        return []
    visible = (path for path in place.iterdir() if not path.name.startswith("."))
    return sorted(path for path in visible if path.name.lower().endswith(suffixes) and not path.is_dir())


def _stem(path: Path) -> str:
    ending = next((suffix for suffix in VOLUME_SUFFIXES if path.name.lower().endswith(suffix)), path.suffix)
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


def _nothing_in(place: Path, strays: list[Path]) -> str:
    below = next((path for suffix in VOLUME_SUFFIXES for path in place.rglob(f"*{suffix}")), None)
    if below is not None:
        return f"{place} holds no volume itself, but {below.parent} does; name that folder"
    others = strays + _files(place, OTHER_VOLUMES)
    if others:
        return f"{place} holds no volume that can be read; convert {others[0].name} and the others to NIfTI first"
    return f"{place} holds no volume ({FORMATS}); name a folder of volumes"


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
