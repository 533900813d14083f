"""What every form of Table 1 says alike: figures, the legend, and the notes under it."""

import math
from collections import defaultdict

from gvsl.report.numbers import plural
from gvsl.report.table1.columns import ColumnKey
from gvsl.report.table1.scores import DRAWS
from gvsl.report.table1.table import OURS, SCRATCH, SIGNIFICANT, Cell, Table

MISSING = "n/a"


def figure(value: float, signed: bool = False) -> str:
    """A figure in per cent to one place; one that there is none of is said so."""
    if not math.isfinite(value):
        return MISSING
    return f"{value:+.1f}" if signed else f"{value:.1f}"


def legend(bold: str, star: str) -> str:
    """What stands in a cell; `bold` and `star` are these words as the form writes them."""
    return (
        "Mean over seeds and test cases in per cent; in square brackets its 95 % interval, of "
        f"{DRAWS:,} bootstrap draws of the cases; in round brackets the difference to {SCRATCH} over the seeds and "
        f"cases that both have. {bold}: the best of a column. {star}: differs from {OURS} (p < {SIGNIFICANT}, paired "
        "over cases, corrected by Holm for as many comparisons as the column has)."
    )


def counts(table: Table) -> list[tuple[str, str]]:
    """For each column its title, and how many test cases and which seeds its cells are of."""
    return [(column.title, _counted(table, column)) for column in table.columns]


def notes(table: Table) -> list[str]:
    """What else must be known of single cells, a sentence each."""
    found = []
    for method in table.methods:
        for column in table.columns:
            cell = table.cells.get((method, column))
            lost = cell.failed if cell else table.failed.get((method, column), 0)
            said = [f"{plural(lost, 'run')} failed"] if lost else []
            said += _said(cell) if cell else []
            if said:
                found.append(f"{method}, {column.title}: {'; '.join(said)}.")
    return found


def _said(cell: Cell) -> list[str]:
    said = []
    if cell.left_out:
        said.append(f"{plural(cell.left_out, 'case')} left out, not scored in every run")
    if cell.repeated:
        said.append(f"several runs of seed {', '.join(map(str, cell.repeated))}, which count as their mean")
    if not math.isfinite(cell.mean):
        said.append("no AUC, since all test cases are of one class")
    return said


def _counted(table: Table, column: ColumnKey) -> str:
    groups: dict[tuple[int, tuple[int, ...]], list[str]] = defaultdict(list)
    for method in table.methods:
        cell = table.cells.get((method, column))
        if cell is not None:
            groups[cell.cases, cell.seeds].append(method)
    parts = []
    for (cases, seeds), methods in groups.items():
        whose = f" ({', '.join(methods)})" if len(groups) > 1 else ""
        parts.append(
            f"n = {plural(cases, 'case')}, {'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}{whose}"
        )
    return "; ".join(parts) or "no run finished"
