"""DICOM series in folders as cases, and what is left out of them."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gvsl.cases import Case
from gvsl.datasets.pairing import Image
from gvsl.datasets.places import Place
from gvsl.datasets.subjects import subject_of
from gvsl.io import Series, group_series
from gvsl.io.dicom_series import COPY

DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")
"""Suffixes of DICOM files; most have none in particular."""
HEAD_BYTES = 256


@dataclass(frozen=True)
class SeriesFound:
    """The DICOM files of a folder."""

    images: list[Image]
    left_out: list[tuple[Path, str]]
    """Files and folders that are no part of a series, each with the reason."""
    strays: list[Path]
    """Files that are no DICOM despite their name or their lack of a suffix."""
    files: set[Path]
    """All DICOM files."""


def find_dicom(root: Path, files: list[Path]) -> SeriesFound:
    """Find the DICOM series among the files of a folder and below.

    The id of a series is its folders' names and its UID, whatever else lies beside it. Series without a volume are
    cases too: they are refused when they are read.
    """
    found, left_out = group_series(files)
    homes = [Path(os.path.commonpath([path.parent for path in series.files])) for series in found]
    every = set(homes)
    above = {parent for home in every for parent in home.parents}
    several = Counter(homes)
    names = Counter((home, series.uid) for home, series in zip(homes, found, strict=True))
    copies = [path for path, reason in left_out if COPY in reason]
    images = []
    for home, series in zip(homes, found, strict=True):
        folders = home.relative_to(root).parts or (root.resolve().name,)
        alone = several[home] == 1 and home not in above and every.isdisjoint(home.parents)
        whole = alone and not any(path.is_relative_to(home) for path in copies) and not _has_links(home, series.files)
        parts = tuple(path.relative_to(home).as_posix() for path in series.files)
        folder = "_".join(folders) if series.volume else ""
        case = Case(
            "_".join([*folders, *_own_name(series)]) + (_mark(series) if names[home, series.uid] > 1 else ""),
            home,
            parts=() if whole else parts,
            subject=f"PatientID {series.patient}" if series.patient else subject_of(folders, ""),
            former=folder,
        )
        images.append(Image(case, Place(home, folders[:-1], folders[-1]), folder))
    taken = {path for series in found for path in series.files} | {path for path, _ in left_out}
    others = (path for path in files if path not in taken)
    strays = [path for path in others if path.name.lower().endswith(DICOM_SUFFIXES) or _lacks_suffix(path)]
    return SeriesFound(sorted(images, key=lambda image: image.case.id), _together(left_out), strays, taken)


def _own_name(series: Series) -> list[str]:
    """Return what names a series in its folder: its UID, or the name of an unreadable file; nothing without a UID."""
    file = series.files[0]
    return [] if series.uid == str(file.parent) else [file.name if series.uid == str(file) else series.uid]


def _mark(series: Series) -> str:
    """Return an ending for one of several series with equal UIDs in a folder; it doesn't reveal the patient."""
    return "_" + hashlib.sha256(f"{series.patient}\0{series.study}".encode()).hexdigest()[:8]


def _has_links(home: Path, files: Sequence[Path]) -> bool:
    """Return True if a file lies in a link to a folder below `home`."""
    folders = {folder for path in files for folder in path.relative_to(home).parents}
    return any((home / folder).is_symlink() for folder in folders if folder != Path())


def _together(left_out: Sequence[tuple[Path, str]]) -> list[tuple[Path, str]]:
    """Join files of one folder that are left out for the same reason."""
    groups: dict[tuple[Path, str], list[Path]] = {}
    for path, reason in left_out:
        groups.setdefault((path.parent, reason.partition(";")[0].partition(" of ")[0]), []).append(path)
    reasons = dict(left_out)
    return [
        (paths[0], reasons[paths[0]] + (f"; {len(paths) - 1} more files in its folder are too" if paths[1:] else ""))
        for paths in groups.values()
    ]


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
