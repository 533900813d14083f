"""The curves of a run as a table."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from gvsl.files import whole_file


def write_curves(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, float]]) -> None:
    """Write one row a logged step, blank where a row lacks a column, whole or not at all."""
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
