"""Discovery of volumes in folders: files and DICOM series."""

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from gvsl.cases import Case
from gvsl.errors import UserError
from gvsl.io import COMPANION_SUFFIXES, VOLUME_SUFFIXES, find_series

DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")
"""Suffixes of DICOM files; most have none in particular."""
NO_DICOM = (*VOLUME_SUFFIXES, *COMPANION_SUFFIXES, ".json", ".b2nd")
FORMATS = "NIfTI, NRRD, MetaImage, MGZ or DICOM"
LABEL_FOLDERS = ("labels", "labelstr", "labelsts", "annotations", "segmentations", "masks", "derivatives")
"""Names of folders of label maps or results, in lower case."""
LABEL_ENDING = re.compile(r"[-_.](label|labels|seg|dseg|segmentation|mask)$", re.IGNORECASE)
"""Name endings of label maps beside their images."""
HEAD_BYTES = 256


def find_volumes(root: Path, labels: Path) -> tuple[list[Case], list[Case]]:
    """Find the volumes in a folder and below: NIfTI, NRRD and MetaImage files and DICOM series.

    The id of a file is its folders' names and its stem, joined by "_"; that of a series its folders' names, with its
    SeriesInstanceUID if there are several in the folder. Hidden files are ignored.

    Args:
        root: the folder.
        labels: the folder of its label maps, which is ignored too.

    Returns:
        cases in no split that look readable, and those to refuse: unreadable formats, label maps among images, and
        unknown files.

    Raises:
        UserError: there is no readable volume, or the folder has the layout of another dataset.
    """
    if (root / "imagesTr").is_dir():
        raise UserError(
            f"{root} has the layout of the Decathlon and of nnU-Net: give --dataset decathlon or nnunet, "
            f"or name {root / 'imagesTr'}"
        )
    files, left_out = _visible(root, labels)
    images = [path for path in files if path.name.lower().endswith(VOLUME_SUFFIXES)]
    among = {path.parent for path in images if not LABEL_ENDING.search(stem(path))}
    maps = {path for path in images if path.parent in among and LABEL_ENDING.search(stem(path))}
    series, strays = _series(root, [path for path in files if not path.name.lower().endswith(NO_DICOM)])
    pairs = {(path.parent, stem(path)) for path in images}
    strays += [path for path in files if (half := _half_of(path)) is not None and half not in pairs]
    taken = [Case(file_id(path, root), path) for path in images if path not in maps]
    if not taken and not series:
        raise UserError(_nothing_in(root, strays))
    reason = "is a label map by its name, among images; put it into labels/ under its image's name, or rename it"
    refused = [Case(_joined(path, root), path, unusable=reason) for path in sorted(maps)]
    return [*taken, *series], [*refused, *left_out, *_refused(root, strays)]


def files_in(root: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """List the visible files of a folder with these suffixes, sorted."""
    if not root.is_dir():
        return []
    visible = (path for path in root.iterdir() if not path.name.startswith("."))
    return sorted(path for path in visible if path.name.lower().endswith(suffixes) and not path.is_dir())


def files_below(root: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """List the visible files of a folder and below with these suffixes, sorted."""
    return [path for path in _walk(root) if path.name.lower().endswith(suffixes)]


def stem(path: Path) -> str:
    """Return a volume's file name without its suffix.

    >>> stem(Path("sub-01.nii.gz"))
    'sub-01'
    """
    ending = next((suffix for suffix in VOLUME_SUFFIXES if path.name.lower().endswith(suffix)), path.suffix)
    return path.name[: len(path.name) - len(ending)]


def file_id(path: Path, root: Path) -> str:
    """Return the id of a file: the names of its folders below `root` and its stem, joined by "_"."""
    return "_".join([*path.relative_to(root).parent.parts, stem(path)])


def by_id(found: Iterable[tuple[str, Path]], root: Path) -> dict[str, Path]:
    """Return the files by id.

    Args:
        found: ids and files.
        root: the folder with all files.

    Raises:
        UserError: two files have the same id.
    """
    files: dict[str, Path] = {}
    for name, path in found:
        other = files.setdefault(name, path)
        if other != path:
            one, two = (file.relative_to(root).as_posix() for file in (other, path))
            raise UserError(f"{root} holds both {one} and {two} for {name}; remove one of them")
    return files


def _walk(root: Path, ignored: Path | None = None) -> list[Path]:
    """List the visible files of a folder and below, sorted."""
    files = []
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if not name.startswith(".") and Path(folder, name) != ignored]
        files += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(files)


def _visible(root: Path, labels: Path) -> tuple[list[Path], list[Case]]:
    """Return the files to search for volumes, and one case to refuse per folder of label maps."""
    files, folders_of_maps = [], []
    for path in _walk(root, labels):
        folders = path.relative_to(root).parent.parts
        depth = next((depth for depth, name in enumerate(folders, 1) if name.lower() in LABEL_FOLDERS), 0)
        if not depth:
            files.append(path)
        elif path.name.lower().endswith(VOLUME_SUFFIXES):
            folders_of_maps.append(root.joinpath(*folders[:depth]))
    return files, [
        Case(
            _joined(folder, root),
            folder,
            unusable=f"holds label maps or results by its name ({count} volumes), not images; rename it, or prepare it "
            "separately",
        )
        for folder, count in Counter(folders_of_maps).items()
    ]


def _series(root: Path, files: list[Path]) -> tuple[list[Case], list[Path]]:
    """Return a case for each DICOM series, and the files that aren't DICOM despite their name or lack of suffix.

    Series without a volume are cases too: they are refused when they are read.
    """
    found = find_series(files)
    homes = {uid: Path(os.path.commonpath([path.parent for path in paths])) for uid, paths in found.items()}
    count = Counter(homes.values())
    above = {parent for home in count for parent in home.parents}
    cases = []
    for uid, paths in found.items():
        home = homes[uid]
        alone = count[home] == 1 and home not in above and count.keys().isdisjoint(home.parents)
        name = "_".join(home.relative_to(root).parts) or root.resolve().name
        parts = () if alone else tuple(path.relative_to(home).as_posix() for path in paths)
        cases.append(Case(name if alone else f"{name}_{uid}", home, parts=parts))
    taken = {path for paths in found.values() for path in paths}
    others = (path for path in files if path not in taken)
    strays = [path for path in others if path.name.lower().endswith(DICOM_SUFFIXES) or _lacks_suffix(path)]
    return sorted(cases, key=lambda case: case.id), strays


def _lacks_suffix(path: Path) -> bool:
    """Return True if a file has no meaningful suffix, like many DICOM files, and isn't text."""
    if (path.suffix and not path.suffix[1:].isdecimal()) or path.name.upper() == "DICOMDIR":
        return False
    if not path.is_file():  # a pipe, which must not be opened, or a broken link
        return True
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError:
        return True
    return not head or b"\0" in head


def _half_of(path: Path) -> tuple[Path, str] | None:
    """Return folder and stem of the header that belongs to an .img file; None for other files."""
    ending = next((ending for ending in (".img", ".img.gz") if path.name.lower().endswith(ending)), None)
    return None if ending is None else (path.parent, path.name[: -len(ending)])


def _refused(root: Path, strays: list[Path]) -> list[Case]:
    """Return a case for each known but unreadable file, and one for all unknown files of a folder."""
    known = [path for path in strays if path.name.lower().endswith(NO_DICOM)]
    others: dict[Path, list[Path]] = {}
    for path in sorted(set(strays) - set(known)):
        others.setdefault(path.parent, []).append(path)
    cases = []
    for paths in others.values():
        reason = f"is neither a volume by its name nor DICOM, like {len(paths) - 1} more files in its folder"
        cases.append(Case(_joined(paths[0], root), paths[0], unusable=reason if len(paths) > 1 else ""))
    cases += [Case(_joined(path, root), path) for path in known]
    return sorted(cases, key=lambda case: case.image)


def _joined(path: Path, root: Path) -> str:
    return "_".join(path.relative_to(root).parts)


def _nothing_in(root: Path, strays: list[Path]) -> str:
    below = next((path for suffix in VOLUME_SUFFIXES for path in root.rglob(f"*{suffix}")), None)
    if below is not None:
        return f"{root} holds no volume itself, but {below.parent} does; name that folder"
    if strays:
        return f"{root} holds no volume that can be read; convert {strays[0].name} and the others to NIfTI first"
    return f"{root} holds no volume ({FORMATS}); name a folder of volumes"
