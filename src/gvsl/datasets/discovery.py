"""Volumes as they lie in a folder: files and DICOM series, whatever the folder is for."""

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from gvsl.cases import Case
from gvsl.errors import UserError
from gvsl.io import COMPANION_SUFFIXES, VOLUME_SUFFIXES, find_series

OTHER_VOLUMES = (".mgz", ".mgh")
"""What can't be read, and is refused by name."""
DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")
"""What DICOM files may be called; most are called nothing in particular."""
NO_DICOM = (*VOLUME_SUFFIXES, *COMPANION_SUFFIXES, *OTHER_VOLUMES, ".json", ".b2nd")
FORMATS = "NIfTI, NRRD, MetaImage or DICOM"
LABEL_FOLDERS = ("labels", "labelstr", "labelsts", "annotations", "segmentations", "masks", "derivatives")
"""What folders of label maps, or of results, are called, in small letters."""
LABEL_ENDING = re.compile(r"[-_.](label|labels|seg|dseg|segmentation|mask)$", re.IGNORECASE)
"""What the names of label maps end in where they lie beside their images."""
HEAD_BYTES = 256


def find_volumes(place: Path, labels: Path) -> tuple[list[Case], list[Case]]:
    """The volumes of a folder and of those below it, each a case of no split: files and DICOM series.

    Files are NIfTI, NRRD or MetaImage. Each has the names of the folders that lead to it and its stem, joined by
    "_"; a series those of the folders, and its SeriesInstanceUID behind that where its folder holds other series too.
    What is hidden is left out.

    Args:
        place: the folder.
        labels: the folder of its label maps, which is left out too.

    Returns:
        what looks as if it could be read, and what can't be or isn't taken: volumes by their name, label maps among
        images, and files that are nothing known.

    Raises:
        UserError: there is no volume that could be read, or the folder is laid out for another dataset.
    """
    if (place / "imagesTr").is_dir():
        raise UserError(
            f"{place} is laid out as datasets of the Decathlon and of nnU-Net are: give --dataset decathlon or nnunet, "
            f"or name {place / 'imagesTr'}"
        )
    files, left_out = _visible(place, labels)
    images = [path for path in files if path.name.lower().endswith(VOLUME_SUFFIXES)]
    among = {path.parent for path in images if not LABEL_ENDING.search(stem(path))}
    maps = {path for path in images if path.parent in among and LABEL_ENDING.search(stem(path))}
    series, strays = _series(place, [path for path in files if not path.name.lower().endswith(NO_DICOM)])
    pairs = {(path.parent, stem(path)) for path in images}
    strays += [path for path in files if path.name.lower().endswith(OTHER_VOLUMES)]
    strays += [path for path in files if (half := _half_of(path)) is not None and half not in pairs]
    taken = [Case(file_id(path, place), path) for path in images if path not in maps]
    if not taken and not series:
        raise UserError(_nothing_in(place, strays))
    reason = "is a label map by its name, beside images; put it into labels/ under its image's name, or rename it"
    refused = [Case(_joined(path, place), path, unusable=reason) for path in sorted(maps)]
    return [*taken, *series], [*refused, *left_out, *_told(place, strays)]


def files_in(place: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files of a folder that end so, sorted; hidden files are left out."""
    if not place.is_dir():
        return []
    visible = (path for path in place.iterdir() if not path.name.startswith("."))
    return sorted(path for path in visible if path.name.lower().endswith(suffixes) and not path.is_dir())


def files_below(place: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files of a folder and of those below it that end so; hidden files and folders are left out."""
    return [path for path in _walked(place) if path.name.lower().endswith(suffixes)]


def stem(path: Path) -> str:
    """A volume's file name without what it ends in: a.nii.gz is a."""
    ending = next((suffix for suffix in VOLUME_SUFFIXES if path.name.lower().endswith(suffix)), path.suffix)
    return path.name[: len(path.name) - len(ending)]


def file_id(path: Path, place: Path) -> str:
    """The id of a file in `place` or below it: the folders that lead there and its stem, joined by "_"."""
    return "_".join([*path.relative_to(place).parent.parts, stem(path)])


def by_id(found: Iterable[tuple[str, Path]], place: Path) -> dict[str, Path]:
    """Files by their ids.

    Args:
        found: id and file.
        place: the folder in which all of them lie.

    Raises:
        UserError: two have one id, and nobody said which is meant.
    """
    files: dict[str, Path] = {}
    for name, path in found:
        other = files.setdefault(name, path)
        if other != path:
            one, two = (file.relative_to(place).as_posix() for file in (other, path))
            raise UserError(f"{place} holds both {one} and {two} for {name}; remove one of them")
    return files


def _walked(place: Path, left_out: Path | None = None) -> list[Path]:
    """The visible files of a folder and below it, in the order of their paths."""
    files = []
    for folder, below, names in os.walk(place):
        below[:] = [name for name in below if not name.startswith(".") and Path(folder, name) != left_out]
        files += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(files)


def _visible(place: Path, labels: Path) -> tuple[list[Path], list[Case]]:
    """The files among which volumes are looked for, and what lies in folders of label maps, each with the reason."""
    files, told = [], []
    for path in _walked(place, labels):
        folders = path.relative_to(place).parent.parts
        depth = next((depth for depth, name in enumerate(folders, 1) if name.lower() in LABEL_FOLDERS), 0)
        if not depth:
            files.append(path)
        elif path.name.lower().endswith(VOLUME_SUFFIXES):
            told.append(place.joinpath(*folders[:depth]))
    counted = Counter(told)
    return files, [
        Case(
            _joined(folder, place),
            folder,
            unusable=f"holds label maps or results by its name ({count} volumes), which are not taken for images; "
            "rename it, or prepare it by itself",
        )
        for folder, count in counted.items()
    ]


def _series(place: Path, files: list[Path]) -> tuple[list[Case], list[Path]]:
    """A case for each DICOM series, and the files that should be DICOM, by their name or for want of one, and aren't.

    Series that hold no volume are cases too: they are refused when they are read.
    """
    found = find_series(files)
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
    strays = [path for path in files if path not in taken and (_called_dicom(path) or _nameless(path))]
    return sorted(cases, key=lambda case: case.id), strays


def _called_dicom(path: Path) -> bool:
    return path.name.lower().endswith(DICOM_SUFFIXES)


def _nameless(path: Path) -> bool:
    """Whether a file has no ending that says what it is, as many of DICOM, and isn't text."""
    if (path.suffix and not path.suffix[1:].isdecimal()) or path.name.upper() == "DICOMDIR":
        return False
    if not path.is_file():  # a pipe, which must not be opened, or a link to nowhere
        return True
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError:
        return True
    return not head or b"\0" in head


def _half_of(path: Path) -> tuple[Path, str] | None:
    """Where the header of a file of voxels belongs, folder and stem; None if it is no such file."""
    ending = next((ending for ending in (".img", ".img.gz") if path.name.lower().endswith(ending)), None)
    return None if ending is None else (path.parent, path.name[: -len(ending)])


def _told(place: Path, strays: list[Path]) -> list[Case]:
    """A case for each of what is refused when it is read, but one for all the files of a folder without a format."""
    known = [path for path in strays if path.name.lower().endswith(NO_DICOM)]
    others: dict[Path, list[Path]] = {}
    for path in sorted(set(strays) - set(known)):
        others.setdefault(path.parent, []).append(path)
    cases = []
    for paths in others.values():
        reason = f"is neither a volume by its name nor DICOM, like {len(paths) - 1} more files of its folder"
        cases.append(Case(_joined(paths[0], place), paths[0], unusable=reason if len(paths) > 1 else ""))
    cases += [Case(_joined(path, place), path) for path in known]
    return sorted(cases, key=lambda case: case.image)


def _joined(path: Path, place: Path) -> str:
    return "_".join(path.relative_to(place).parts)


def _nothing_in(place: Path, strays: list[Path]) -> str:
    below = next((path for suffix in VOLUME_SUFFIXES for path in place.rglob(f"*{suffix}")), None)
    if below is not None:
        return f"{place} holds no volume itself, but {below.parent} does; name that folder"
    if strays:
        return f"{place} holds no volume that can be read; convert {strays[0].name} and the others to NIfTI first"
    return f"{place} holds no volume ({FORMATS}); name a folder of volumes"
