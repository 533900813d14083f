"""Any folder of volume files or DICOM series, with or without labels and splits."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gvsl.cases import HELD_OUT, SPLITS, Case, Dataset, SourceChannel
from gvsl.datasets.channels import ending_channels, numbered
from gvsl.datasets.discovery import FORMATS, Found, by_id, find_volumes, label_folder
from gvsl.datasets.listing import read_json, read_label_names
from gvsl.datasets.names import is_label_folder
from gvsl.datasets.pairing import Matcher
from gvsl.datasets.places import joined, place
from gvsl.datasets.subjects import across_splits, with_shared_labels
from gvsl.datasets.tree import Tree, passed_over, walk
from gvsl.errors import UserError
from gvsl.io import LABEL_SUFFIXES, VOLUME_SUFFIXES
from gvsl.text import few

SPLITS_NAME, LABELS_NAME, CLASSES_NAME = "splits.json", "labels.json", "classes.json"


def folder(
    root: Path, allow_leakage: bool = False, channels: Sequence[str] = (), taken: Sequence[SourceChannel] = ()
) -> Dataset:
    """Load the cases of a folder of volumes.

    NIfTI, NRRD and MetaImage files and DICOM series lie at any depth in `root`/images, or in `root` itself if that is
    missing. `root`/labels may have label maps of the same names, splits.json lists of ids for pretrain, train, val
    and test, labels.json a name for each label value, and classes.json the image-level label, 0 or 1, of each id.
    Without splits.json every case is in pretrain; with it, unlisted cases are in no split. Ids are the folder names
    below and the file name, joined by "_"; of a DICOM series the folder names and its SeriesInstanceUID.

    Args:
        root: the folder.
        allow_leakage: accept cases of val or test, or other cases of their subjects, that are in another split too.
        channels: endings of names, such as T1w and T2w: files of equal names but for them are the channels of one
            image, and others are left out.
        taken: known channels that images may have, in files of their own or on a fourth axis.

    Raises:
        UserError: `root` is missing or has no volume, a JSON file is malformed, splits or classes list unknown cases,
            or val and test overlap with each other or with pretrain and train, by case or by subject, without
            `allow_leakage`.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder; name a folder of volumes ({FORMATS})")
    images = root / "images" if (root / "images").is_dir() else root
    maps = label_folder(root)
    known = [root / name for name in (SPLITS_NAME, LABELS_NAME, CLASSES_NAME)]
    named = ending_channels(channels)
    found = find_volumes(images, maps, known, named or taken, keep_others=not named)
    labels, unused, rest = _read_labels(root, images, maps, found)
    cases = [replace(case, label=labels.get(case.id)) for case in found.cases]
    cases = with_shared_labels(cases)
    splits = _read_splits(root / SPLITS_NAME, cases, found.matcher, allow_leakage)
    targets = _read_targets(root / CLASSES_NAME, found.matcher)
    cases = [replace(case, splits=_splits_of(case.id, splits), target=targets.get(case.id)) for case in cases]
    # What can't be used becomes cases too, so that it is refused by name.
    cases += [*found.refused, *(Case(joined(path, root), path, unusable=reason) for path, reason in unused)]
    counts = passed_over([*found.rest, *(path for path in rest if path not in known)])
    notes = [numbered(cases)] if not named and not taken else []
    if found.left_out:
        notes.append(f"{found.left_out} images are none of the channels {few(list(channels))}: they are left out")
    return Dataset(
        cases,
        read_label_names(root / LABELS_NAME),
        root.resolve().name,
        passed_over=counts,
        channels=named,
        notes=tuple(note for note in notes if note),
    )


def _read_labels(
    root: Path, images: Path, maps: Path, found: Found
) -> tuple[dict[str, Path], list[tuple[Path, str]], list[Path]]:
    """Return the label maps by id, what can't be used as one with the reason, and the files that are nothing of these.

    Those in `maps` come first, then those in other folders of label maps beside images/, then those among the images.
    """
    beside = walk(root, [images, maps]) if images != root else Tree()
    inside = walk(maps) if maps.is_dir() else Tree()
    given = [place(path, maps) for path in inside.files if path.name.lower().endswith(LABEL_SUFFIXES)]
    by_id(((where.id, where.path) for where in given), maps)
    pairs = found.matcher.pair(given, given=True)
    volumes = [place(path, root) for path in beside.files if path.name.lower().endswith(VOLUME_SUFFIXES)]
    others = found.matcher.pair([where for where in volumes if any(map(is_label_folder, where.folders))], given=False)
    labels: dict[str, Path] = {}
    unused = [*inside.closed, *beside.closed]
    unused += [(path, f"is a label map {why}") for path, why in (pairs.others | others.others).items()]
    among = {case.id: case.label for case in found.cases if case.label is not None}
    for source in (pairs.labels, others.labels, among):
        for case_id, path in source.items():
            used = labels.setdefault(case_id, path)
            if used != path:
                unused.append((path, f"is a label map of {case_id} too, but {used.relative_to(root)} is used"))
    outside = [where for where in volumes if where.path not in {*others.labels.values(), *others.others}]
    unused += [(where.path, "lies outside images/; move it there, or prepare it separately") for where in outside]
    taken = {where.path for where in (*given, *volumes)}
    return labels, unused, [path for path in (*inside.files, *beside.files) if path not in taken]


def _splits_of(case_id: str, splits: dict[str, set[str]] | None) -> tuple[str, ...]:
    if splits is None:
        return ("pretrain",)
    return tuple(name for name in SPLITS if case_id in splits.get(name, ()))


def _read_splits(
    path: Path, cases: Sequence[Case], matcher: Matcher, allow_leakage: bool
) -> dict[str, set[str]] | None:
    if not path.exists():
        return None
    read = read_json(path)
    if not isinstance(read, dict) or not all(
        isinstance(ids, list) and all(isinstance(item, str) for item in ids) for ids in read.values()
    ):
        raise UserError(f'{path} must hold lists of ids by split, like {{"pretrain": ["a", "b"], "test": ["c"]}}')
    splits = {}
    for name, ids in read.items():
        if name not in SPLITS:
            raise UserError(f"{path} has a split {name!r}; the splits are {', '.join(SPLITS)}")
        meant = {item: matcher.resolve(item) for item in ids}
        missing = sorted(item for item, ids in meant.items() if not ids)
        if missing:
            raise UserError(f"{path} names cases in {name} that have no image: {few(missing)}")
        splits[name] = {case_id for found in meant.values() for case_id in found}
    if not allow_leakage:
        _refuse_leakage(path, splits)
        both = across_splits(cases, {case.id: _splits_of(case.id, splits) for case in cases})
        if both:
            raise UserError(
                f"{path} has cases of one subject in training and held out, or in both val and test: {both}; move them "
                "to one side, or give --allow-leakage"
            )
    return splits


def _refuse_leakage(path: Path, splits: dict[str, set[str]]) -> None:
    fix = "take them out of one, or give --allow-leakage"
    trained = splits.get("pretrain", set()) | splits.get("train", set())
    for name in HELD_OUT:
        both = sorted(splits.get(name, set()) & trained)
        if both:
            raise UserError(f"{path} has cases of {name} in pretrain or train too: {few(both)}; {fix}")
    both = sorted(splits.get("val", set()) & splits.get("test", set()))
    if both:
        raise UserError(f"{path} has cases in both val and test: {few(both)}; {fix}")


def _read_targets(path: Path, matcher: Matcher) -> dict[str, int]:
    if not path.exists():
        return {}
    found = read_json(path)
    if not isinstance(found, dict) or not all(type(value) is int and value in (0, 1) for value in found.values()):
        raise UserError(f'{path} must hold a class, 0 or 1, by id, like {{"a": 0, "b": 1}}')
    meant = {name: matcher.resolve(name) for name in found}
    missing = sorted(name for name, cases in meant.items() if not cases)
    if missing:
        raise UserError(f"{path} names cases that have no image: {few(missing)}")
    return {case_id: found[name] for name, cases in meant.items() for case_id in cases}
