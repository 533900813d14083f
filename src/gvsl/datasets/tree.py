"""The visible files below a folder; links to folders are entered once."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gvsl.files import real_path
from gvsl.text import few, printable

NAMED = 24
"""Maximum number of endings in a message."""
PACKED = (".gz", ".bz2", ".zip", ".xz", ".zst", ".part", ".crdownload", ".download", ".tmp")
"""Endings that are told with the one before."""


@dataclass
class Tree:
    """The files of a folder and below."""

    files: list[Path] = field(default_factory=list)
    """Visible files, sorted."""
    closed: list[tuple[Path, str]] = field(default_factory=list)
    """Folders that were not entered, each with the reason."""


def walk(root: Path, ignored: Iterable[Path] = ()) -> Tree:
    """List the visible files of a folder and below, without those in `ignored`.

    Folders come before links to folders, so that a file keeps the path in its own folder. A link is entered unless its
    target has been, holds the folder, or can't be opened.
    """
    tree = Tree()
    seen: set[tuple[int, int]] = set()
    left = {path.absolute() for path in ignored}
    shut = {_identity(path) for path in left if path.is_dir()}
    above = {_identity(folder) for folder in root.resolve().parents}
    links = [root]
    while links:
        link = links.pop(0)
        identity = _identity(link)
        if link != root and (identity in seen or identity in above):
            where = "above it" if identity in above or _is_within(link) else "that is read already"
            tree.closed.append((link, f"is a link to a folder {where}; it was not entered again"))
        elif identity not in shut or link == root:
            links = sorted([*links, *_enter(link, tree, seen, left, shut)])
    tree.files.sort()
    return tree


def passed_over(files: Iterable[Path]) -> dict[str, int]:
    """Count files by ending, the most frequent first.

    >>> passed_over([Path("a.nii.bz2"), Path("b.tif"), Path("c.tif"), Path("README")])
    {'.tif': 2, '.nii.bz2': 1, 'no ending': 1}
    """
    found = Counter(_ending(path) for path in files)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def describe_endings(counts: Mapping[str, int]) -> str:
    """Format the counts of `passed_over` in one line."""
    return few([f"{count} {printable(ending)}" for ending, count in counts.items()], NAMED)


def matching(root: Path, patterns: Sequence[str]) -> list[Path]:
    """List the visible files below a folder whose last parts match a pattern, by pattern and sorted."""
    files = walk(root).files if root.is_dir() else []
    return [path for pattern in patterns for path in files if path.match(pattern)]


def _enter(
    top: Path, tree: Tree, seen: set[tuple[int, int]], left: set[Path], shut: set[tuple[int, int]]
) -> list[Path]:
    """Add the files of a folder and below, and return the links to folders among them."""
    links: list[Path] = []

    def fail(error: OSError) -> None:
        tree.closed.append((Path(error.filename or top), f"can't be opened ({error.strerror or error})"))

    for folder, below, names in os.walk(top, onerror=fail):
        identity = _identity(Path(folder))
        if identity in seen:
            below[:] = []
            continue
        seen.add(identity)
        inner = [Path(folder, name) for name in below if not name.startswith(".")]
        inner = [path for path in inner if path.absolute() not in left and _identity(path) not in shut]
        links += [path for path in inner if path.is_symlink()]
        below[:] = sorted(path.name for path in inner if not path.is_symlink())
        tree.files += [Path(folder, name) for name in names if not name.startswith(".")]
    return links


def _identity(path: Path) -> tuple[int, int]:
    try:
        state = path.stat()
    except OSError:
        return (-1, hash(path))
    return state.st_dev, state.st_ino


def _is_within(link: Path) -> bool:
    return real_path(link.parent).is_relative_to(real_path(link))


def _ending(path: Path) -> str:
    parts = path.name.lower().split(".")
    if len(parts) < 2:
        return "no ending"
    count = 1
    while count < 3 and count + 1 < len(parts) and f".{parts[-count]}" in PACKED:
        count += 1
    return "." + ".".join(parts[-count:])
