"""What the files of a case were like when it was prepared, to tell later which have changed."""

import hashlib
import json
import stat
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gvsl.cases import Case

COMPANIONS = (".img", ".img.gz", ".raw", ".raw.gz", ".zraw")
"""Endings of the files that hold the voxels of a header file of the same name."""
HEADERS = (".hdr", ".mhd", ".nhdr")


@dataclass(frozen=True)
class Stamp:
    """One source, a file or a folder of files."""

    size: int
    """Bytes, of all files together."""
    mtime_ns: int
    """When it was changed last, as the file system says."""
    sha256: str = ""
    """Of the content; empty where it wasn't looked at."""


@dataclass(frozen=True)
class Origin:
    """What a case was made of, and how much of the disk it takes; a line of sources.jsonl."""

    id: str
    image: Stamp
    label: Stamp | None
    stored: tuple[int, ...]
    """Bytes of the stored image and, where there is one, of the label map."""

    def line(self) -> bytes:
        """As it is written."""
        return json.dumps(asdict(self), separators=(",", ":"), ensure_ascii=False).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes | dict[str, Any]) -> "Origin":
        """From a line, or from what it parses to.

        Raises:
            ValueError, KeyError, TypeError: it isn't one.
        """
        found = json.loads(line) if isinstance(line, bytes) else line
        image, label = (None if found[part] is None else Stamp(**found[part]) for part in ("image", "label"))
        if image is None:
            raise ValueError("a case has no image")
        return cls(str(found["id"]), image, label, tuple(int(size) for size in found["stored"]))


def stamp(path: Path, content: bool = False) -> Stamp:
    """Size and time of a file with its companions, or of all files in a folder; with `content` the hash too.

    Raises:
        OSError: it isn't there, can't be read, or is neither a file nor a folder.
    """
    files = _files(path)
    states = [file.stat() for file in files]
    if not all(stat.S_ISREG(state.st_mode) for state in states):  # to open a pipe would wait for ever
        raise OSError(f"{path} is neither a file nor a folder")
    size, mtime = sum(state.st_size for state in states), max((state.st_mtime_ns for state in states), default=0)
    return Stamp(size, mtime, _hash(files, path) if content else "")


def case_stamps(case: Case, content: bool = False) -> tuple[Stamp, Stamp | None]:
    """Those of a case's image, with the mask if it has one, and of its label map.

    Raises:
        OSError: a file isn't there, or can't be read.
    """
    image = stamp(case.image, content)
    if case.mask is not None:
        mask = stamp(case.mask, content)
        digest = hashlib.sha256((image.sha256 + mask.sha256).encode()).hexdigest() if content else ""
        image = Stamp(image.size + mask.size, max(image.mtime_ns, mask.mtime_ns), digest)
    return image, None if case.label is None else stamp(case.label, content)


def unchanged(case: Case, before: Origin) -> Origin | None:
    """What a case is made of now, if that is what it was made of before: by size and time, else by content."""
    old = (before.image, before.label)
    try:
        now = case_stamps(case)
        if _each(now, "size") != _each(old, "size"):
            return None
        touched = _each(now, "mtime_ns") != _each(old, "mtime_ns")
        if touched and _each(case_stamps(case, content=True), "sha256") != _each(old, "sha256"):
            return None
    except OSError:
        return None
    image, label = now
    if label is not None and before.label is not None:
        label = replace(label, sha256=before.label.sha256)
    return Origin(before.id, replace(image, sha256=before.image.sha256), label, before.stored)


def _each(stamps: tuple[Stamp, Stamp | None], name: str) -> list[Any]:
    return [None if item is None else getattr(item, name) for item in stamps]


def _files(path: Path) -> list[Path]:
    """A file with its companions, or all files in a folder."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    if path.suffix.lower() not in HEADERS:
        return [path]
    beside = (path.with_name(path.stem + ending) for ending in COMPANIONS)
    return [path, *(file for file in beside if file.is_file())]


def _hash(files: list[Path], root: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256")
        if len(files) == 1:
            return content.hexdigest()
        name = file.relative_to(root if root.is_dir() else root.parent).as_posix()
        digest.update(f"{name}\0{content.hexdigest()}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
