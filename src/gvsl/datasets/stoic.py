"""STOIC: chest CT with and without COVID-19 (Revel et al. 2021; task `ccc`)."""

import csv
import io
from pathlib import Path

from gvsl.cases import Case, Dataset
from gvsl.datasets.discovery import files_in
from gvsl.datasets.listing import one_row_each
from gvsl.datasets.places import stem
from gvsl.datasets.splits import drawn
from gvsl.datasets.tree import matching
from gvsl.errors import UserError
from gvsl.io import VOLUME_SUFFIXES
from gvsl.readers import read_bytes

COUNTS = {"train": 1000, "val": 400, "test": 600}
"""The split of the 2,000 public cases in the GVSL paper (Table 2)."""
TABLE = "reference.csv"
COLUMNS = ("PatientID", "probCOVID")
MASKS = "lungs"
TREE = "metadata/reference.csv and data/mha/1.mha and so on"


def stoic(root: Path) -> Dataset:
    """Load the public scans of STOIC, at any depth below `root`, with class 1 for COVID-19.

    A volume of the same id in `root`/lungs, in any format, is the lung mask for a crop to the lungs. A mask without a
    scan becomes a case too, so that it is refused by name.

    Args:
        root: folder with metadata and data.

    Raises:
        UserError: `root` has no such files, the table is malformed, or an id has two scans or two masks.
    """
    tables = matching(root, [TABLE])
    images = _by_id(matching(root, ["mha/*.mha"]), "scans")
    if not tables or not images:
        raise UserError(f"{root} is not STOIC: it should hold {TREE}")
    classes = _read_classes(tables[0])
    splits = drawn([name for name in images if name in classes], COUNTS)
    masks = _by_id(files_in(root / MASKS, VOLUME_SUFFIXES), "masks")
    home = next(iter(images.values())).parent
    orphans = {name: home / f"{name}.mha" for name in masks if name not in images}
    cases = [
        Case(name, path, splits=splits.get(name, ()), target=classes.get(name), mask=masks.get(name))
        for name, path in (images | orphans).items()
    ]
    return Dataset(cases, {}, "stoic")


def _by_id(paths: list[Path], what: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        other = found.setdefault(stem(path), path)
        if other != path:
            raise UserError(f"{other} and {path} are two {what} of the id {stem(path)}; remove one of them")
    return found


def _read_classes(path: Path) -> dict[str, int]:
    try:
        rows = list(csv.DictReader(io.StringIO(read_bytes(path).decode("utf-8-sig"), newline="")))
        read = [(row[COLUMNS[0]].strip(), float(row[COLUMNS[1]])) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, ValueError, AttributeError, TypeError):
        raise UserError(f"{path} should be a table with the columns {', '.join(COLUMNS)} of numbers") from None
    if not read:
        raise UserError(f"{path} should be a table with the columns {', '.join(COLUMNS)}; it has no rows")
    if not {target for _, target in read} <= {0, 1}:
        raise UserError(f"{path} should have 0 or 1 in the column {COLUMNS[1]}")
    found = one_row_each(read, path)
    return {name: int(target) for name, target in found.items()}
