"""Table 1 for programs, as CSV."""

import csv
import io
import math

from gvsl.report.table1.notes import MISSING
from gvsl.report.table1.table import Cell, Table

NAMES = (
    *("method", "store", "mode", "labels", "settings", "metric"),
    *("mean", "low", "high", "to_scratch", "p_value", "cases", "seeds", "failed", "left_out"),
)


def as_csv(table: Table) -> str:
    """The table with every figure: a row a cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(NAMES)
    for method in table.methods:
        for key in table.columns:
            cell = table.cells.get((method, key))
            labels = "all" if key.labels is None else key.labels
            start = [method, key.store, key.mode, labels, key.settings, key.metric]
            if cell is not None:
                writer.writerow([*start, *_figures(cell)])
            elif (method, key) in table.failed:
                writer.writerow([*start, *[""] * 5, 0, "", table.failed[method, key], 0])
    return out.getvalue()


def _figures(cell: Cell) -> list[str | int]:
    figures = (cell.mean, cell.low, cell.high, cell.to_scratch, cell.p_value)
    seeds = " ".join(map(str, cell.seeds))
    return [*map(_said, figures), cell.cases, seeds, cell.failed, cell.left_out]


def _said(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if math.isfinite(value) else MISSING
