"""Text that every format of Table 1 shares: percentages, the legend, and the notes under the table."""

import math
from collections import defaultdict

from gvsl.metrics.bootstrap import DRAWS
from gvsl.report.grouping import OURS, SCRATCH
from gvsl.report.numbers import plural
from gvsl.report.table1.table import SIGNIFICANT, Cell, ColumnKey, Table

MISSING = "n/a"


def percentage(value: float, signed: bool = False) -> str:
    """Format a percentage with one decimal; "n/a" if it is not finite."""
    if not math.isfinite(value):
        return MISSING
    return f"{value:+.1f}" if signed else f"{value:.1f}"


def legend(bold: str, star: str) -> str:
    """Explain the cells; `bold` and `star` name these marks as the format writes them."""
    return (
        "Mean over seeds and test cases in per cent; in square brackets its 95 % interval, of "
        f"{DRAWS:,} bootstrap draws of the cases; in round brackets the difference to {SCRATCH} over the seeds and "
        f"cases that both have. {bold}: the best of a column. {star}: differs from {OURS} (p < {SIGNIFICANT}, paired "
        "over cases, corrected by Holm for as many comparisons as the column has)."
    )


def counts(table: Table) -> list[tuple[str, str]]:
    """Return each column's title with the number of test cases and the seeds of its cells."""
    return [(column.title, _counts_of(table, column)) for column in table.columns]


def notes(table: Table) -> list[str]:
    """Return a sentence for each cell that needs one."""
    found = []
    for method in table.methods:
        for column in table.columns:
            cell = table.cells.get((method, column))
            failed = cell.failed if cell else table.failed.get((method, column), 0)
            parts = [f"{plural(failed, 'run')} failed"] if failed else []
            parts += _cell_notes(cell) if cell else []
            if parts:
                found.append(f"{method}, {column.title}: {'; '.join(parts)}.")
    return found


def _cell_notes(cell: Cell) -> list[str]:
    parts = []
    if cell.left_out:
        parts.append(f"{plural(cell.left_out, 'case')} left out, not scored in every run")
    if cell.repeated:
        parts.append(f"several runs of seed {', '.join(map(str, cell.repeated))}, which count as their mean")
    if not math.isfinite(cell.mean):
        parts.append("no AUC, since all test cases are of one class")
    return parts


def _counts_of(table: Table, column: ColumnKey) -> str:
    alike: dict[tuple[int, tuple[int, ...]], list[str]] = defaultdict(list)
    for method in table.methods:
        cell = table.cells.get((method, column))
        if cell is not None:
            alike[cell.cases, cell.seeds].append(method)
    parts = []
    for (cases, seeds), methods in alike.items():
        whose = f" ({', '.join(methods)})" if len(alike) > 1 else ""
        parts.append(
            f"n = {plural(cases, 'case')}, {'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}{whose}"
        )
    return "; ".join(parts) or "no run finished"
