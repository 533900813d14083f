"""Discovery of volumes in folders: files and DICOM series."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gvsl.cases import Case, SourceChannel
from gvsl.datasets.channels import together
from gvsl.datasets.maps import kinds_of, label_depth, refused_maps
from gvsl.datasets.names import normal
from gvsl.datasets.pairing import Image, Matcher
from gvsl.datasets.places import joined, place, stem
from gvsl.datasets.series import find_dicom
from gvsl.datasets.subjects import subject_of
from gvsl.datasets.tree import describe_endings, passed_over, walk
from gvsl.errors import UserError
from gvsl.io import COMPANION_SUFFIXES, VOLUME_SUFFIXES

NO_DICOM = (*VOLUME_SUFFIXES, *COMPANION_SUFFIXES, ".json", ".b2nd")
FORMATS = "NIfTI, NRRD, MetaImage, MGZ or DICOM"
HEADERS = (".hdr", ".hdr.gz", ".nhdr", ".mhd")


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
    left_out: int = 0
    """Number of images that are none of the channels."""


def find_volumes(
    root: Path,
    labels: Path,
    known: Sequence[Path] = (),
    channels: Sequence[SourceChannel] = (),
    keep_others: bool = False,
) -> Found:
    """Find the volumes in a folder and below: NIfTI, NRRD and MetaImage files and DICOM series.

    The id of a file is its folders' names and its stem, joined by "_"; that of a series its folders' names and its
    SeriesInstanceUID. Hidden files are ignored. Label maps are told from
    images by their names, and matched to them if they lie on their grid.

    Args:
        root: the folder.
        labels: the folder of its label maps, which is ignored too.
        known: files that are no volumes, but are read.
        channels: those of an image, if they are files of their own, by the ends of their names.
        keep_others: keep images whose name ends in none of these.

    Raises:
        UserError: there is no readable volume, or no channel, or the folder has the layout of another dataset.
    """
    if (root / "imagesTr").is_dir():
        raise UserError(
            f"{root} has the layout of the Decathlon and of nnU-Net: give --dataset decathlon or nnunet, "
            f"or name {root / 'imagesTr'}"
        )
    tree = walk(root, [labels])
    volumes = [path for path in tree.files if path.name.lower().endswith(VOLUME_SUFFIXES)]
    kinds = kinds_of(volumes, root)
    others = [path for path in tree.files if label_depth(path, root) == 0]
    dicom = find_dicom(root, [path for path in others if not path.name.lower().endswith(NO_DICOM)])
    pairs = {(path.parent, stem(path)) for path in volumes}
    strays = list(dicom.strays)
    strays += [path for path in others if (half := _half_of(path)) is not None and half not in pairs]
    images = [_image(path, root) for path in volumes if kinds[path] == "image"]
    candidates = [path for path in volumes if kinds[path] in ("folder", "ending", "word")]
    images, left_out = [*images, *dicom.images], 0
    if channels and images:
        images, unnamed = together(images, channels)
        if keep_others:
            images += unnamed
        elif not images:
            raise UserError(f"{root} has no image whose name ends in {' or '.join(each.name for each in channels)}")
        else:
            left_out = len(unnamed)
    found = Matcher(images).pair([place(path, root) for path in candidates], given=False)
    used = set(found.labels.values())
    doubtful = [path for path in volumes if kinds[path] == "word" and path not in used]
    unsure = [_image(path, root, found.others.get(path, "among images")) for path in doubtful]
    everything = [*images, *unsure]
    if not everything:
        raise UserError(_nothing_in(root, strays, tree.files))
    order = {path: number for number, path in enumerate(volumes)}
    everything.sort(key=lambda image: order.get(image.place.path, len(order)))  # a stable sort: series come last
    cases = [replace(image.case, label=found.labels.get(image.case.id)) for image in everything]
    refused = [
        *refused_maps([path for path in volumes if path not in used], kinds, root, found),
        *(Case(joined(path, root), path, unusable=reason) for path, reason in (*tree.closed, *dicom.left_out)),
        *_refused(root, strays),
    ]
    seen = {*volumes, *strays, *known, *dicom.files}
    headed = {path.parent for path in volumes if path.name.lower().endswith(HEADERS)}
    rest = [path for path in tree.files if path not in seen and not (path.parent in headed and _is_companion(path))]
    return Found(cases, refused, rest, Matcher(everything), left_out)


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
