"""Table 1 in the page: every method in every column, each figure linked to the runs that made it."""

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite

from gvsl.report.numbers import plural
from gvsl.report.page import Html, element, join, scrolling, section, text
from gvsl.report.pretraining import RANDOM, feature_sides
from gvsl.report.runs import Run
from gvsl.report.sections.names import seed_links
from gvsl.report.table1.notes import figure
from gvsl.report.table1.table import SCRATCH, Cell, ColumnKey, Table, table1

LEAD = (
    "Mean over test cases and seeds in per cent, its 95 % interval over cases in square brackets, the difference to "
    "training without pre-training in round ones. The best of a column is bold; a star says that a figure differs from "
    "gvsl's (p < 0.05, paired over cases, corrected for as many comparisons as the column has). Each seed links to its "
    "run."
)
ORDER = (SCRATCH,)


def comparison(runs: Sequence[Run]) -> Html | None:
    """The section, or None where there is nothing to compare."""
    runs = _told_apart(runs)
    table = table1([run.record for run in runs], ORDER)
    if len(table.methods) < 2:
        return None
    heads = [element("th", "Method", scope="col")]
    heads += [element("th", *_head(key), css="figure", scope="col") for key in table.columns]
    rows = [
        element("tr", element("th", method, scope="row"), *(_cell(table, method, key, runs) for key in table.columns))
        for method in table.methods
    ]
    body = [element("thead", element("tr", *heads)), element("tbody", *rows)]
    whole = scrolling(element("table", *body, css="sortable hides table1"), "All methods")
    return section("table1", "All methods", LEAD, whole)


def _told_apart(runs: Sequence[Run]) -> list[Run]:
    """The transfer runs, with a method's name telling how its pre-training differed: a row of its own."""
    transfers = [run for run in runs if run.record.kind == "transfer"]
    sides = feature_sides(transfers, [run for run in runs if run.record.kind == "pretrain"])
    return [
        run if name == RANDOM else replace(run, record=replace(run.record, config=run.record.config | {"method": name}))
        for run, name in zip(transfers, sides, strict=True)
    ]


def _head(key: ColumnKey) -> list[Html]:
    """A column's name on two lines."""
    below = key.metric if key.labels is None else f"{plural(key.labels, 'label')}, {key.metric}"
    return [element("span", f"{key.store}, {key.mode},"), text(" "), element("span", below)]


def _cell(table: Table, method: str, column: ColumnKey, runs: Sequence[Run]) -> Html:
    cell = table.cells.get((method, column))
    if cell is None:
        lost = table.failed.get((method, column), 0)
        return element("td", f"failed ({lost})" if lost else "", css="figure", data_sort="")
    mean = figure(cell.mean)
    said: list[Html | str] = [element("b", mean) if table.best(column) == method else mean]
    if cell.differs:
        said.append(element("span", " *", title=f"p = {cell.p_value:.2g}"))
    said.append(element("small", _beside(cell)))
    made = [run for record in table.made[method, column] for run in runs if run.record is record]
    said.append(element("small", " seed ", seed_links(made)))
    return element(
        "td",
        join([item if isinstance(item, Html) else element("span", item) for item in said]),
        css="figure",
        data_sort=f"{cell.mean:.6g}" if isfinite(cell.mean) else "",
    )


def _beside(cell: Cell) -> str:
    gap = "" if cell.to_scratch is None else f" ({figure(cell.to_scratch, signed=True)})".replace("-", "\N{MINUS SIGN}")
    lost = f", {cell.failed} failed" if cell.failed else ""
    return f"[{figure(cell.low)}, {figure(cell.high)}]{gap}, n {cell.cases}{lost}"
