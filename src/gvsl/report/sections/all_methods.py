"""Table 1 in the page: every arm in every column, each cell with links to its runs."""

from math import isfinite

from gvsl.report.numbers import MINUS, plural
from gvsl.report.page import Html, element, join, scrolling, section, text
from gvsl.report.sections.names import seed_links
from gvsl.report.table1.formats import bracketed, percentage
from gvsl.report.table1.table import Cell, ColumnKey, Table

LEAD = (
    "Mean over test cases and seeds in per cent, its 95 % interval over five or more cases in square brackets, the "
    "difference to training without pre-training in round ones. The best of a column is bold; a star marks a "
    "difference from gvsl (p < 0.05, paired over cases, corrected for as many comparisons as the column has). Each "
    "seed links to its run."
)


def all_methods(table: Table) -> Html | None:
    """Return the section, or None if there is nothing to compare."""
    if len(table.methods) < 2:
        return None
    heads = [element("th", "Method", scope="col")]
    heads += [element("th", *_head(key), css="figure", scope="col") for key in table.columns]
    rows = [
        element("tr", element("th", method, scope="row"), *(_cell(table, method, key) for key in table.columns))
        for method in table.methods
    ]
    body = [element("thead", element("tr", *heads)), element("tbody", *rows)]
    whole = scrolling(element("table", *body, css="sortable hides table1"), "All methods")
    return section("table1", "All methods", LEAD, whole)


def _head(key: ColumnKey) -> list[Html]:
    """Return a column's name on two lines."""
    labels = "" if key.labels is None else plural(key.labels, "label")
    below = ", ".join(filter(None, (labels, key.settings, key.metric)))
    return [element("span", f"{key.store}, {key.mode},"), text(" "), element("span", below)]


def _cell(table: Table, method: str, column: ColumnKey) -> Html:
    cell = table.cells.get((method, column))
    if cell is None:
        failed = table.failed.get((method, column), 0)
        return element("td", f"failed ({failed})" if failed else "", css="figure", data_sort="")
    mean = percentage(cell.mean)
    parts = [element("b" if table.best(column) == method else "span", mean)]
    if cell.differs:
        parts.append(element("span", " *", title=f"p = {cell.p_value:.2g}"))
    parts.append(element("small", _beside(cell)))
    parts.append(element("small", " seed ", seed_links(cell.runs)))
    return element("td", join(parts), css="figure", data_sort=f"{cell.mean:.6g}" if isfinite(cell.mean) else "")


def _beside(cell: Cell) -> str:
    gap = "" if cell.to_scratch is None else f" ({percentage(cell.to_scratch, signed=True)})".replace("-", MINUS)
    failed = f", {cell.failed} failed" if cell.failed else ""
    return f"{bracketed(cell)}{gap}, n {cell.cases}{failed}".lstrip(" ,")
