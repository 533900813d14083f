"""Volumes as they lie in a folder: files and DICOM series, whatever the folder is for."""

import os
from collections import Counter
from pathlib import Path

from gvsl.errors import UserError
from gvsl.io import COMPANION_SUFFIXES, VOLUME_SUFFIXES, find_series
from gvsl.types import Case

OTHER_VOLUMES = (".mgz", ".mgh")
"""What can't be read, and is refused by name."""
DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")
"""What DICOM files may be called; most are called nothing in particular."""
NO_DICOM = (*VOLUME_SUFFIXES, *COMPANION_SUFFIXES, *OTHER_VOLUMES, ".json", ".b2nd")
FORMATS = "NIfTI, NRRD, MetaImage or DICOM"


def find_volumes(place: Path) -> tuple[list[Case], list[Case]]:
    """The volumes of a folder, each a case of no split: files that lie in it, and DICOM series at any depth.

    Files are NIfTI, NRRD or MetaImage, and named by their stems. A series has the names of the folders that lead to
    it, joined by "_", and its SeriesInstanceUID behind that where its folder holds other series too. A folder
    `labels` below is left out.

    Returns:
        what looks as if it could be read, and what is a volume by its name and can't be.

    Raises:
        UserError: there is no volume that could be read.
    """
    images = [Case(stem(path), path) for path in files_in(place, VOLUME_SUFFIXES)]
    series, strays = _series(place)
    if not images and not series:
        raise UserError(_nothing_in(place, strays))
    stems = {case.id for case in images}
    strays += files_in(place, OTHER_VOLUMES)
    strays += [path for path in files_in(place, (".img", ".img.gz")) if stem(path) not in stems]
    return [*images, *series], [Case("_".join(path.relative_to(place).parts), path) for path in sorted(strays)]


def files_in(place: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files of a folder that end so, sorted; hidden files are left out."""
    if not place.is_dir():
        return []
    visible = (path for path in place.iterdir() if not path.name.startswith("."))
    return sorted(path for path in visible if path.name.lower().endswith(suffixes) and not path.is_dir())


def stem(path: Path) -> str:
    """A volume's file name without what it ends in: a.nii.gz is a."""
    ending = next((suffix for suffix in VOLUME_SUFFIXES if path.name.lower().endswith(suffix)), path.suffix)
    return path.name[: len(path.name) - len(ending)]


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


def _nothing_in(place: Path, strays: list[Path]) -> str:
    below = next((path for suffix in VOLUME_SUFFIXES for path in place.rglob(f"*{suffix}")), None)
    if below is not None:
        return f"{place} holds no volume itself, but {below.parent} does; name that folder"
    others = strays + files_in(place, OTHER_VOLUMES)
    if others:
        return f"{place} holds no volume that can be read; convert {others[0].name} and the others to NIfTI first"
    return f"{place} holds no volume ({FORMATS}); name a folder of volumes"
