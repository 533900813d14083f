"""Stamps of a case's files at the time of preparation, by which later changes are detected."""

import hashlib
import json
import stat
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from gvsl.cases import Case
from gvsl.files import real_path, sha256_of
from gvsl.io import COMPANION_SUFFIXES, UnusableFile, files_of
from gvsl.readers import check_kind, parse_json

WHOLE = (".nii", ".nii.gz", ".mgh", ".mgz", ".dcm")
"""Endings of files that hold their own voxels, so that stamping a hundred thousand of them opens none."""
GUESSED_HEADERS = (".hdr", ".mhd", ".nhdr")
"""Suffixes of files for which an earlier gvsl guessed the files with the voxels by their names."""


class StampRow(TypedDict):
    """A stamp in JSON."""

    size: int
    mtime_ns: int
    sha256: str


class OriginRow(TypedDict):
    """A line of sources.jsonl."""

    id: str
    image: StampRow
    label: StampRow | None
    stored: list[int]
    others: NotRequired[list[StampRow]]


@dataclass(frozen=True)
class Stamp:
    """State of one source, a file or a folder."""

    size: int
    """Total size of all files, in bytes."""
    mtime_ns: int
    """Last modification."""
    sha256: str = ""
    """Hash of the content; empty if it wasn't read."""


@dataclass(frozen=True)
class Origin:
    """Sources of a case and the size of its arrays; a line of sources.jsonl."""

    id: str
    image: Stamp
    label: Stamp | None
    stored: tuple[int, ...]
    """Bytes of the stored image and of the label map, if there is one."""
    others: tuple[Stamp, ...] = ()
    """Of the files of the further channels, if the image has several files."""

    def line(self) -> bytes:
        """Format as JSON."""
        values = asdict(self)
        if not self.others:
            del values["others"]
        return json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes | dict[str, Any]) -> "Origin":
        """Parse a line or its JSON object; ValueError if it is malformed."""
        found = parse_json(line) if isinstance(line, bytes) else line
        check_kind(found, OriginRow)
        image, others = _stamp(found["image"]), tuple(map(_stamp, found.get("others", ())))
        label = None if found["label"] is None else _stamp(found["label"])
        return cls(found["id"], image, label, tuple(found["stored"]), others)


def _stamp(row: StampRow) -> Stamp:
    return Stamp(row["size"], row["mtime_ns"], row["sha256"])


@dataclass(frozen=True)
class Stamps:
    """Sources of a case: its image, its label map and the further channels."""

    image: Stamp
    label: Stamp | None
    others: tuple[Stamp, ...] = ()

    def origin(self, case_id: str, stored: tuple[int, ...]) -> Origin:
        """Return the origin of a case that was stored in so many bytes."""
        return Origin(case_id, self.image, self.label, stored, self.others)

    def each(self, name: str) -> list[Any]:
        """Return a field of every stamp."""
        return [None if item is None else getattr(item, name) for item in (self.image, self.label, *self.others)]


def stamp(path: Path, content: bool = False, parts: Sequence[str] = (), guessed: bool = False) -> Stamp:
    """Return size and time, and with `content` the hash, of a file with that of its voxels, or of a folder's files.

    Args:
        path: of the file or folder.
        content: read it too.
        parts: the files of the folder, relative to it; all if not given.
        guessed: guess by name where a file's voxels are, as an earlier gvsl did.

    Raises:
        OSError: `path` is missing, unreadable, or neither a file nor a folder.
    """
    files = sorted(path / part for part in parts) or _files(path, guessed)
    states = [file.stat() for file in files]
    if not all(stat.S_ISREG(state.st_mode) for state in states):  # opening a pipe would block
        raise OSError(f"{path} is neither a file nor a folder")
    size, mtime = sum(state.st_size for state in states), max((state.st_mtime_ns for state in states), default=0)
    return Stamp(size, mtime, _hash(files, path) if content else "")


def case_stamps(case: Case, content: bool = False, guessed: bool = False) -> Stamps:
    """Stamp a case's image, together with its mask, its label map and channels; OSError if a file can't be read."""
    image, *others = (stamp(each.image, content, each.parts, guessed) for each in case.images)
    if case.mask is not None:
        mask = stamp(case.mask, content, guessed=guessed)
        digest = hashlib.sha256((image.sha256 + mask.sha256).encode()).hexdigest() if content else ""
        image = Stamp(image.size + mask.size, max(image.mtime_ns, mask.mtime_ns), digest)
    label = None if case.label is None else stamp(case.label, content, guessed=guessed)
    return Stamps(image, label, tuple(others))


def unchanged(case: Case, before: Origin) -> Origin | None:
    """Return the current origin if the files are the same as before by size and time, or by content; else None."""
    found = _unchanged(case, before)
    if found is None and case.parts:  # gvsl 0.1 stamped all that lies in the folder of a series
        found = _unchanged(replace(case, parts=()), before)
    if found is None and _is_guessed_otherwise(case) and _unchanged(case, before, guessed=True) is not None:
        try:
            return case_stamps(case, content=True).origin(before.id, before.stored)  # of all files from now on
        except OSError:
            return None
    return found


def _is_guessed_otherwise(case: Case) -> bool:
    """Return True if an earlier gvsl stamped other files of a case."""
    paths = [path for path in (case.label, case.mask, *(each.image for each in case.images)) if path is not None]
    return any(_files(path) != _files(path, guessed=True) for path in paths)


def _unchanged(case: Case, before: Origin, guessed: bool = False) -> Origin | None:
    old = Stamps(before.image, before.label, before.others)
    try:
        now = case_stamps(case, guessed=guessed)
        if now.each("size") != old.each("size"):
            return None
        touched = now.each("mtime_ns") != old.each("mtime_ns")
        if touched and case_stamps(case, content=True, guessed=guessed).each("sha256") != old.each("sha256"):
            return None
    except OSError:
        return None
    label = now.label
    if label is not None and before.label is not None:
        label = replace(label, sha256=before.label.sha256)
    others = (replace(one, sha256=known.sha256) for one, known in zip(now.others, before.others, strict=True))
    return Origin(before.id, replace(now.image, sha256=before.image.sha256), label, before.stored, tuple(others))


def _files(path: Path, guessed: bool = False) -> list[Path]:
    """List a file with that of its voxels, or all files in a folder."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    if path.name.lower().endswith(WHOLE):
        return [path]
    if not guessed:
        try:
            return files_of(path)
        except UnusableFile:  # reported when it is read
            return [path]
    if path.suffix.lower() not in GUESSED_HEADERS:
        return [path]
    beside = (path.with_name(path.stem + ending) for ending in COMPANION_SUFFIXES)
    return [path, *(file for file in beside if file.is_file())]


def _hash(files: list[Path], root: Path) -> str:
    if len(files) == 1:
        return sha256_of(files[0])
    digest = hashlib.sha256()
    for file in files:
        name = _name_below(root if root.is_dir() else root.parent, file)
        digest.update(f"{name}\0{sha256_of(file)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _name_below(folder: Path, file: Path) -> str:
    """Return a file's path relative to a folder, which may be a link that has been followed in that of the file."""
    return file.relative_to(folder if file.is_relative_to(folder) else real_path(folder)).as_posix()
