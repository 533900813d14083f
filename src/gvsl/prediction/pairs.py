"""Pairs of images to register, from the command line or a table."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from gvsl.cases import Case
from gvsl.datasets import stem
from gvsl.errors import UserError
from gvsl.prediction.predict import find_images
from gvsl.readers import read_bytes

REQUIRED = ("moving", "fixed")
OPTIONAL = ("moving_labels", "fixed_labels")


@dataclass(frozen=True)
class ImagePair:
    """Two image files, and their label maps where there are any."""

    moving: Path
    fixed: Path
    moving_labels: Path | None = None
    """To be carried onto the fixed image."""
    fixed_labels: Path | None = None
    """The truth that the carried labels are compared with."""

    @property
    def id(self) -> str:
        """The name of the pair's results."""
        return f"{_name(self.moving)}_to_{_name(self.fixed)}"


def _name(image: Path) -> str:
    """Return a file's name without its ending; the whole name of a folder, which may end in digits of a UID."""
    return image.name if image.is_dir() else stem(image)


def read_pairs(table: Path) -> list[ImagePair]:
    """Read the pairs of a CSV file with the columns moving and fixed, and perhaps moving_labels and fixed_labels.

    Paths are relative to the table's folder; an empty cell is no file.

    Raises:
        UserError: it can't be read, has other columns, or a row lacks an image.
    """
    try:
        lines = list(csv.reader(io.StringIO(read_bytes(table).decode("utf-8-sig"), newline=""), strict=True))
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(f"{table} can't be read as a table of pairs ({reason}): give a CSV file in UTF-8") from None
    columns = [name.strip() for name in lines[0]] if lines else []
    wrong = set(columns) - {*REQUIRED, *OPTIONAL} or set(REQUIRED) - set(columns) or len(columns) != len(set(columns))
    if wrong:
        raise UserError(
            f"{table} has the columns {', '.join(columns) or 'none'}: they must be moving and fixed, and may be "
            "moving_labels and fixed_labels"
        )
    pairs = []
    for number, cells in enumerate(lines[1:], start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(columns):
            raise UserError(f"{table}, row {number}: it has {len(cells)} cells, the table {len(columns)} columns")
        given = {name: table.parent / cell.strip() for name, cell in zip(columns, cells, strict=True) if cell.strip()}
        if not given.keys() >= {*REQUIRED}:
            raise UserError(f"{table}, row {number}: it names no moving or no fixed image")
        pairs.append(ImagePair(given["moving"], given["fixed"], *(given.get(name) for name in OPTIONAL)))
    if not pairs:
        raise UserError(f"{table} has no row: name a pair in each")
    return pairs


def find_image(path: Path) -> Case:
    """Return the one image at a path: a file, or the folder of a DICOM series.

    Raises:
        UserError: there is none, or several.
    """
    found = find_images([path])
    if len(found) != 1:
        raise UserError(f"{path} holds {len(found)} images: name one of them")
    return found[0]
