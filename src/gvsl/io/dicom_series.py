"""DICOM files grouped into series; objects that are no images, and copies, are set aside with the reason."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import UID

from gvsl.io.dicom_file import is_dicom, parsing, read_header, read_whole
from gvsl.io.volume import UnusableFile

IDENTITY = (
    "SOPClassUID",
    "SOPInstanceUID",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "ImageType",
    "Rows",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
)
"""Elements that tell which series a file belongs to, and whether it is an image."""
DIRECTORY = "1.2.840.10008.1.3.10"
DERIVED = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.5", "1.2.840.10008.5.1.4.1.1.481.2")
"""SOP classes with voxels that are no image: segmentation, surface segmentation, dose."""
IMAGES = ("CT", "MR", "PT", "NM", "US", "XA")
"""Modalities by which a file without a known SOP class counts as an image."""
NOBODY = {"", "0", "00000", "none", "null", "unknown", "removed", "anon", "anonym", "anonymous", "anonymised"}
NOBODY |= {"anonymized", "deidentified", "de-identified", "patient", "patientid", "xxx", "xxxx", "id", "na", "n/a"}
"""PatientIDs, in lower case, that tell patients apart no more."""
COPY = "a copy of"
"""Part of the reason for which a copy is left out."""
Item = tuple[Path, FileDataset]


@dataclass(frozen=True)
class Series:
    """The files of one volume, or of what is refused as none."""

    uid: str
    """SeriesInstanceUID; the folder of files without one, the path of an unreadable file."""
    files: tuple[Path, ...]
    patient: str = ""
    """PatientID; empty if it is missing or tells nothing."""
    study: str = ""
    """StudyInstanceUID."""
    volume: bool = True
    """False for localisers, single slices and unreadable files."""


def find_series(files: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the image files among `files` by `Series.uid`, whatever their patient, study and folder."""
    found: dict[str, list[Path]] = {}
    for series in group_series(files)[0]:
        found.setdefault(series.uid, []).extend(series.files)
    return found


def group_series(files: Sequence[Path]) -> tuple[list[Series], list[tuple[Path, str]]]:
    """Group the DICOM files among `files` into series.

    Patients and studies are kept apart even if their UIDs are equal, and so are folders with slices at the same
    positions.

    Returns:
        the series, and the DICOM files that are left out with the reason: objects that are no images, and copies.
    """
    groups: dict[str, list[Item]] = defaultdict(list)
    series, left_out = [], []
    for path in files:
        try:
            if path.name.upper() == "DICOMDIR" or not path.is_file() or not is_dicom(path):
                continue
            header = read_header(path, IDENTITY)
            with parsing(path):
                uid = str(header.get("SeriesInstanceUID", "") or path.parent)
        except (OSError, MemoryError, UnusableFile):  # reported in more detail when the volume is read
            series.append(Series(str(path), (path,), volume=False))
            continue
        reason = not_an_image(header)
        if reason:
            left_out.append((path, reason))
        else:
            groups[uid].append((path, header))
    for uid, items in groups.items():
        for part in _by_patient(items):
            kept, copies = _by_folder(part)
            left_out += copies
            series += [_series(uid, *one) for one in kept]
    return series, left_out


def not_an_image(header: FileDataset) -> str:
    """Return why a file is no part of an image by its SOP class, empty if it may be one."""
    meta = getattr(header, "file_meta", None)
    uid = _text(header, "SOPClassUID") or ("" if meta is None else _text(meta, "MediaStorageSOPClassUID"))
    name = str(UID(uid).name).removesuffix(" Storage")
    if uid == DIRECTORY:
        return "is a DICOMDIR, a table of contents without voxels"
    if uid in DERIVED:
        return f"is no image but a {name}"
    if "Rows" in header or "Image Storage" in str(UID(uid).name):
        return ""
    modality = _text(header, "Modality")
    if (name == uid or not uid) and modality in IMAGES:
        return ""
    return f"holds no voxels: it is {name if name != uid else modality or 'of no modality'}"


def without_copies(items: Sequence[Item]) -> tuple[list[Item], list[tuple[Path, str]]]:
    """Drop files with the instance UID, position and voxels of an earlier one, and say of which."""
    firsts: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    kept, copies = [], []
    for path, header in items:
        earlier = firsts[_instance(header)]
        same = next((other for other in earlier if _same_voxels(other, path)), None)
        if same is None:
            earlier.append(path)
            kept.append((path, header))
        else:
            copies.append((path, f"is {COPY} {same.name}: the same instance at the same position"))
    return kept, copies


def _by_patient(items: list[Item]) -> list[list[Item]]:
    """Split files by patient and study; one without these belongs to the only ones there are."""
    found: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for item in items:
        found[_text(item[1], "PatientID"), _text(item[1], "StudyInstanceUID")].append(item)
    several = any(len({key[part] for key in found} - {""}) > 1 for part in (0, 1))
    return list(found.values()) if several else [items]


def _by_folder(items: list[Item]) -> tuple[list[tuple[list[Item], bool]], list[tuple[Path, str]]]:
    """Split a series by folder if its folders have slices at the same positions; drop folders of copies.

    Returns:
        the parts, each with True if its PatientID can be trusted, and the files left out with the reason.
    """
    folders: dict[Path, list[Item]] = defaultdict(list)
    for item in items:
        folders[item[0].parent].append(item)
    left_out, single = [], {}
    for folder, inside in folders.items():
        single[folder], copies = without_copies(inside)
        left_out += copies
    owners: dict[tuple[str, ...], set[Path]] = defaultdict(set)
    for folder, inside in single.items():
        for _, header in inside:
            owners[_instance(header)[1:]].add(folder)
    if all(len(found) == 1 for position, found in owners.items() if any(position)):
        return [([item for inside in single.values() for item in inside], True)], left_out
    kept: dict[Path, list[Item]] = {}
    trusted = True
    for folder, inside in sorted(single.items(), key=lambda entry: (-len(entry[1]), entry[0])):
        known = {_instance(header): path for other in reversed(kept.values()) for path, header in other}
        shared = [(path, known[_instance(header)]) for path, header in inside if _instance(header) in known]
        equal = [pair for pair in shared if _same_voxels(*pair)]
        trusted = trusted and len(equal) == len(shared)
        whole = shared[0][1].parent if shared else folder
        if shared and len(equal) == len(inside) and len(inside) < len(kept[whole]):
            reason = f"is {COPY} {len(inside)} DICOM files of {whole.name}"
            left_out.append((folder, reason))
        else:
            kept[folder] = inside
    return [(kept[folder], trusted) for folder in sorted(kept)], left_out


def _series(uid: str, items: list[Item], trusted: bool) -> Series:
    patients = sorted({_text(header, "PatientID") for _, header in items} - {""})
    patient = patients[0] if trusted and patients and patients[0].lower() not in NOBODY else ""
    studies = sorted({_text(header, "StudyInstanceUID") for _, header in items} - {""})
    kinds = " ".join(_text(header, "ImageType").upper() for _, header in items)
    frames = {_text(header, "NumberOfFrames") for _, header in items} - {"", "1"}
    volume = not ("LOCALIZER" in kinds or "SCOUT" in kinds) and (len(items) > 1 or bool(frames))
    return Series(uid, tuple(path for path, _ in items), patient, studies[0] if studies else "", volume)


def _instance(header: FileDataset) -> tuple[str, ...]:
    """Return an instance's UID, position and orientation as text; empty where missing."""
    names = ("SOPInstanceUID", "ImagePositionPatient", "ImageOrientationPatient")
    return tuple(_text(header, name) for name in names)


def _text(header: Dataset, name: str) -> str:
    """Return an element as text, empty if it is missing or broken; that is reported when the volume is read."""
    try:
        with parsing():
            return str(header.get(name) or "").strip()
    except UnusableFile:
        return ""


def _same_voxels(one: Path, other: Path) -> bool:
    """Return True if two files are equal, or their voxels are."""
    try:
        if one.stat().st_size == other.stat().st_size and one.read_bytes() == other.read_bytes():
            return True
        first, second = (_voxels(path) for path in (one, other))
    except (OSError, UnusableFile):
        return False
    return bool(first) and first == second


def _voxels(path: Path) -> bytes:
    with parsing(path):
        return bytes(getattr(read_whole(path), "PixelData", b""))
