"""Where a file lies below the root of its source, and the names that follow from it."""

from dataclasses import dataclass
from pathlib import Path

from gvsl.io import VOLUME_SUFFIXES


@dataclass(frozen=True)
class Place:
    """Where a volume lies below its root: its folders and its name without suffix."""

    path: Path
    folders: tuple[str, ...]
    stem: str

    @property
    def id(self) -> str:
        """The folders and the stem, joined by "_"."""
        return "_".join([*self.folders, self.stem] if self.stem else self.folders)


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


def joined(path: Path, root: Path) -> str:
    """Return a name for what is refused: the parts of its path below `root`, joined by "_"."""
    return "_".join(path.relative_to(root).parts)
