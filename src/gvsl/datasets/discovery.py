"""Discovery of volumes in folders: files and DICOM series."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gvsl.cases import Case
from gvsl.datasets.names import is_label_folder, names_label, names_map, names_tissue, normal
from gvsl.datasets.pairing import Image, Matcher, Pairs, Place
from gvsl.datasets.subjects import subject_of
from gvsl.datasets.tree import describe_endings, passed_over, walk
from gvsl.errors import UserError
from gvsl.io import COMPANION_SUFFIXES, VOLUME_SUFFIXES, Series, group_series
from gvsl.io.dicom_series import COPY

OTHER_VOLUMES = (".mgz", ".mgh")
"""Volumes that can't be read, and are refused by name."""
DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")
"""Suffixes of DICOM files; most have none in particular."""
NO_DICOM = (*VOLUME_SUFFIXES, *COMPANION_SUFFIXES, *OTHER_VOLUMES, ".json", ".b2nd")
FORMATS = "NIfTI, NRRD, MetaImage or DICOM"
LABEL_FOLDERS = ("labels", "labelstr", "labelsts", "annotations", "segmentations", "masks", "derivatives")
"""Names of folders of label maps or results, in lower case, whose volumes are never taken for images."""
LABEL_ENDING = re.compile(r"[-_.](label|labels|seg|dseg|segmentation|mask)$", re.IGNORECASE)
"""Name endings of label maps, which are never taken for images beside them."""
HEADERS = (".hdr", ".hdr.gz", ".nhdr", ".mhd")
HEAD_BYTES = 256


@dataclass(frozen=True)
class Found:
    """What a folder holds."""

    cases: list[Case]
    """Images, with the label maps that lie among them; in no split."""
    refused: list[Case]
    """What can't be used, each with the reason: unreadable formats, label maps without an image, unknown files."""
    rest: list[Path] = field(default_factory=list)
    """All other files."""
    matcher: Matcher = field(default_factory=lambda: Matcher([]))
    """The images by the keys of their names."""


def find_volumes(root: Path, labels: Path, known: Sequence[Path] = ()) -> Found:
    """Find the volumes in a folder and below: NIfTI, NRRD and MetaImage files and DICOM series.

    The id of a file is its folders' names and its stem, joined by "_"; that of a series its folders' names, with its
    SeriesInstanceUID if there are several volumes in the folder. Hidden files are ignored. Label maps are told from
    images by their names, and matched to them if they lie on their grid.

    Args:
        root: the folder.
        labels: the folder of its label maps, which is ignored too.
        known: files that are no volumes, but are read.

    Raises:
        UserError: there is no readable volume, or the folder has the layout of another dataset.
    """
    if (root / "imagesTr").is_dir():
        raise UserError(
            f"{root} has the layout of the Decathlon and of nnU-Net: give --dataset decathlon or nnunet, "
            f"or name {root / 'imagesTr'}"
        )
    tree = walk(root, [labels])
    volumes = [path for path in tree.files if path.name.lower().endswith(VOLUME_SUFFIXES)]
    kinds = _kinds(volumes, root)
    others = [path for path in tree.files if _label_depth(path, root) == 0]
    series, left_out, strays, in_series = _series(
        root, [path for path in others if not path.name.lower().endswith(NO_DICOM)]
    )
    pairs = {(path.parent, stem(path)) for path in volumes}
    strays += [path for path in others if path.name.lower().endswith(OTHER_VOLUMES)]
    strays += [path for path in others if (half := _half_of(path)) is not None and half not in pairs]
    images = [_image(path, root) for path in volumes if kinds[path] == "image"]
    candidates = [path for path in volumes if kinds[path] in ("folder", "ending", "word")]
    found = Matcher([*images, *series]).pair([place(path, root) for path in candidates], given=False)
    used = set(found.labels.values())
    doubtful = [path for path in volumes if kinds[path] == "word" and path not in used]
    unsure = [_image(path, root, found.others.get(path, "among images")) for path in doubtful]
    everything = [*images, *unsure, *series]
    if not everything:
        raise UserError(_nothing_in(root, strays, tree.files))
    order = {path: number for number, path in enumerate(volumes)}
    everything.sort(key=lambda image: order.get(image.place.path, len(order)))  # a stable sort: series come last
    cases = [replace(image.case, label=found.labels.get(image.case.id)) for image in everything]
    refused = [
        *_refused_maps([path for path in volumes if path not in used], kinds, root, found),
        *(Case(joined(path, root), path, unusable=reason) for path, reason in (*tree.closed, *left_out)),
        *_refused(root, strays),
    ]
    seen = {*volumes, *strays, *known, *in_series}
    headed = {path.parent for path in volumes if path.name.lower().endswith(HEADERS)}
    rest = [path for path in tree.files if path not in seen and not (path.parent in headed and _is_companion(path))]
    return Found(cases, refused, rest, Matcher(everything))


def label_folder(root: Path) -> Path:
    """Return the folder of a source's label maps: labels, whatever its case, or label; it may not exist."""
    folders = sorted(path for path in root.iterdir() if normal(path.name) in ("labels", "label") and path.is_dir())
    exact = root / "labels"
    return exact if exact in folders or not folders else max(folders, key=lambda path: normal(path.name))


def files_in(root: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """List the visible files of a folder with these suffixes, sorted."""
    if not root.is_dir():
        return []
    visible = (path for path in root.iterdir() if not path.name.startswith("."))
    return sorted(path for path in visible if path.name.lower().endswith(suffixes) and not path.is_dir())


def stem(path: Path) -> str:
    """Return a volume's file name without its suffix.

    >>> stem(Path("sub-01.nii.gz"))
    'sub-01'
    """
    ending = next((suffix for suffix in VOLUME_SUFFIXES if path.name.lower().endswith(suffix)), path.suffix)
    return path.name[: len(path.name) - len(ending)]


def place(path: Path, root: Path) -> Place:
    """Return where a file lies below `root`."""
    return Place(path, path.relative_to(root).parent.parts, stem(path))


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


def _image(path: Path, root: Path, doubt: str = "") -> Image:
    where = place(path, root)
    return Image(Case(where.id, path, doubt=doubt, subject=subject_of(where.folders, where.stem)), where)


def _label_depth(path: Path, root: Path) -> int:
    """Return how many folders below `root` the topmost folder of label maps above a file lies, 0 if there is none."""
    folders = path.relative_to(root).parent.parts
    return next((depth for depth, name in enumerate(folders, 1) if name.lower() in LABEL_FOLDERS), 0)


def _kinds(volumes: Sequence[Path], root: Path) -> dict[Path, str]:
    """Return what each volume is by its name.

    "folder": in a folder of label maps; "map": a statistical map or the like; "ending": a label map among images;
    "word": perhaps a label map, which its voxels decide; "image": nothing of these.
    """
    beside: dict[Path, set[str]] = {}
    for path in volumes:
        beside.setdefault(path.parent, set()).add(normal(stem(path)))
    kinds = {}
    for path in volumes:
        name = stem(path)
        if _label_depth(path, root):
            kinds[path] = "folder"
        elif names_map(name):
            kinds[path] = "map"
        elif LABEL_ENDING.search(name) and not all(LABEL_ENDING.search(other) for other in beside[path.parent]):
            kinds[path] = "ending"
        elif (
            names_label(name)
            or any(map(is_label_folder, path.relative_to(root).parent.parts))
            or names_tissue(name, beside[path.parent])
        ):
            kinds[path] = "word"
        else:
            kinds[path] = "image"
    if "image" not in kinds.values():  # a folder of maps alone is what was asked for
        kinds = {path: "image" if kind == "map" else kind for path, kind in kinds.items()}
    return kinds


def _refused_maps(volumes: Sequence[Path], kinds: Mapping[Path, str], root: Path, found: Pairs) -> list[Case]:
    """Return a case to refuse for each map among images, and one per folder of label maps."""
    cases = []
    for path in volumes:
        if kinds[path] == "map":
            reason = (
                "is a statistical, probability or atlas map by its name; take it out, or rename it if it is an image"
            )
        elif kinds[path] == "ending":
            why = found.others.get(path, "among images")
            reason = f"is a label map by its name, {why}; put it into labels/ under its image's name, or rename it"
        else:
            continue
        cases.append(Case(joined(path, root), path, unusable=reason))
    inside = [path for path in volumes if kinds[path] == "folder"]
    folders = Counter(root.joinpath(*path.relative_to(root).parts[: _label_depth(path, root)]) for path in inside)
    return cases + [
        Case(
            joined(folder, root),
            folder,
            unusable=f"holds label maps or results by its name ({count} volumes), not images; rename it, or prepare it "
            "separately",
        )
        for folder, count in folders.items()
    ]


def _series(root: Path, files: list[Path]) -> tuple[list[Image], list[tuple[Path, str]], list[Path], set[Path]]:
    """Return the DICOM series, what is left out of them, the files that are no DICOM despite their name, and the rest.

    Series without a volume are cases too: they are refused when they are read.
    """
    found, left_out = group_series(files)
    homes = [Path(os.path.commonpath([path.parent for path in series.files])) for series in found]
    every = set(homes)
    above = {parent for home in every for parent in home.parents}
    volumes = Counter(home for home, series in zip(homes, found, strict=True) if series.volume)
    several = Counter(homes)
    names = Counter((home, series.uid) for home, series in zip(homes, found, strict=True))
    copies = [path for path, reason in left_out if COPY in reason]
    images = []
    for home, series in zip(homes, found, strict=True):
        folders = home.relative_to(root).parts or (root.resolve().name,)
        alone = several[home] == 1 and home not in above and every.isdisjoint(home.parents)
        whole = alone and not any(path.is_relative_to(home) for path in copies) and not _has_links(home, series.files)
        parts = tuple(path.relative_to(home).as_posix() for path in series.files)
        named_alone = several[home] == 1 or (series.volume and volumes[home] == 1)
        full = f"{'_'.join(folders)}_{series.uid}" + (_mark(series) if names[home, series.uid] > 1 else "")
        case = Case(
            "_".join(folders) if named_alone else full,
            home,
            parts=() if whole else parts,
            subject=f"PatientID {series.patient}" if series.patient else subject_of(folders, ""),
        )
        images.append(Image(case, Place(home, folders[:-1], folders[-1]), full))
    taken = {path for series in found for path in series.files} | {path for path, _ in left_out}
    others = (path for path in files if path not in taken)
    strays = [path for path in others if path.name.lower().endswith(DICOM_SUFFIXES) or _lacks_suffix(path)]
    return sorted(images, key=lambda image: image.case.id), _together(left_out), strays, taken


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
        cases.append(Case(joined(paths[0], root), paths[0], unusable=reason if len(paths) > 1 else ""))
    cases += [Case(joined(path, root), path) for path in known]
    return sorted(cases, key=lambda case: case.image)


def joined(path: Path, root: Path) -> str:
    """Return a name for what is refused: the parts of its path below `root`, joined by "_"."""
    return "_".join(path.relative_to(root).parts)


def _is_companion(path: Path) -> bool:
    return path.name.lower().endswith(COMPANION_SUFFIXES)


def _nothing_in(root: Path, strays: list[Path], rest: Sequence[Path]) -> str:
    below = next((path for suffix in VOLUME_SUFFIXES for path in root.rglob(f"*{suffix}")), None)
    if below is not None:
        return f"{root} holds no volume itself, but {below.parent} does; name that folder"
    if strays:
        return f"{root} holds no volume that can be read; convert {strays[0].name} and the others to NIfTI first"
    held = f"; what it has can't be read: {describe_endings(passed_over(rest))}" if rest else ""
    return f"{root} holds no volume ({FORMATS}); name a folder of volumes{held}"
