"""Table 1 as CSV for programs, Markdown for reading and LaTeX for papers."""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Callable

from gvsl.metrics.bootstrap import DRAWS, MIN_CASES
from gvsl.report.grouping import OURS, SCRATCH
from gvsl.report.numbers import plural
from gvsl.report.table1.table import SIGNIFICANT, Cell, ColumnKey, Table
from gvsl.text import one_line, table_cell

CSV_COLUMNS = (
    *("method", "store", "mode", "labels", "settings", "metric"),
    *("mean", "low", "high", "to_scratch", "p_value", "cases", "seeds", "failed", "left_out"),
)
LATEX_SPECIAL = str.maketrans(
    {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"}
    | {"[": "{[}", "]": "{]}"}  # LaTeX would read a bracket after a row's end as its option
    | {sign: f"\\{sign}" for sign in "&%$#_{}"}
)
"""Characters that LaTeX interprets, or prints as something else."""
MISSING = "n/a"
PACKAGES = "% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}"


def as_csv(table: Table) -> str:
    """Return the table with every value: a row a cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for method in table.methods:
        for key in table.columns:
            cell = table.cells.get((method, key))
            texts = (method, key.store, key.mode, str(table.labels.get(key, "all")), key.settings, key.metric)
            start = [table_cell(one) for one in texts]
            if cell is not None:
                values = map(_csv_value, (cell.mean, *(cell.interval or (None, None)), cell.to_scratch, cell.p_value))
                seeds = " ".join(map(str, cell.seeds))
                writer.writerow([*start, *values, cell.cases, seeds, cell.failed, cell.left_out])
            elif (method, key) in table.failed:
                writer.writerow([*start, *[""] * 5, 0, "", table.failed[method, key], 0])
    return out.getvalue()


def as_markdown(table: Table) -> str:
    """Return means, intervals, differences and stars; under them what these mean."""
    heads = [_markdown(f"{key.title}, {key.metric} %") for key in table.columns]
    rows = _rows(table, _markdown, _markdown_cell, empty="")
    lines = [_markdown_row(["method", *heads]), "|---" * (1 + len(heads)) + "|", *map(_markdown_row, rows), ""]
    lines += [_legend() + " The p values are in the CSV.", ""]
    lines += [f"- {_markdown(title)}: {_markdown(text)}" for title, text in _counts(table)]
    lines += [f"- {_markdown(note)}" for note in _notes(table)]
    return "\n".join(lines) + "\n"


def as_latex(table: Table) -> str:
    """Return a table with booktabs: means, intervals, differences and stars; a caption and notes explain them."""
    heads = ["Pre-training", *(_latex(f"{key.title} ({key.metric} %)") for key in table.columns)]
    rows = _rows(table, _latex, _latex_cell, empty="--")
    under = [f"{title}: {text}." for title, text in _counts(table)] + _notes(table)
    lines = [
        PACKAGES,
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(_legend())}}}",
        rf"\begin{{tabular}}{{l{'c' * len(table.columns)}}}",
        r"\toprule",
        rf"{' & '.join(heads)} \\",
        r"\midrule",
        *(rf"{' & '.join(row)} \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        "",
        r"\medskip",
        rf"{{\footnotesize {' '.join(map(_latex, under))}\par}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def percentage(value: float, signed: bool = False) -> str:
    """Format a percentage with one decimal; "n/a" if it is not finite."""
    if not math.isfinite(value):
        return MISSING
    return f"{value:+.1f}" if signed else f"{value:.1f}"


def bracketed(cell: Cell) -> str:
    """Format a cell's interval in square brackets; empty if it has none."""
    return "" if cell.interval is None else f"[{', '.join(map(percentage, cell.interval))}]"


def _rows(
    table: Table, escape: Callable[[str], str], written: Callable[[Cell, bool], str], empty: str
) -> list[list[str]]:
    """Return the cells of each row; `written` takes a cell and True for the best of its column."""

    def text(method: str, key: ColumnKey) -> str:
        if (method, key) in table.cells:
            return written(table.cells[method, key], table.best(key) == method)
        failed = table.failed.get((method, key), 0)
        return f"failed ({failed})" if failed else empty

    return [[escape(method), *(text(method, key) for key in table.columns)] for method in table.methods]


def _markdown_cell(cell: Cell, best: bool) -> str:
    mean = percentage(cell.mean)
    text = f"**{mean}**" if best else mean
    text += f" {bracketed(cell)}" if cell.interval else ""
    if cell.to_scratch is not None:
        text += f" ({percentage(cell.to_scratch, signed=True)})"
    if cell.differs:
        text += " *"
    return text + f", n {cell.cases} x {len(cell.seeds)}" + (f", {cell.failed} failed" if cell.failed else "")


def _latex_cell(cell: Cell, best: bool) -> str:
    mean = percentage(cell.mean)
    text = rf"\textbf{{{mean}}}" if best else mean
    text += rf" {{\scriptsize {bracketed(cell)}}}" if cell.interval else ""
    if cell.to_scratch is not None:
        text += f" (${percentage(cell.to_scratch, signed=True)}$)"
    return text + ("$^{*}$" if cell.differs else "")


def _markdown_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(text: str) -> str:
    return one_line(text).replace("\\", "\\\\").replace("|", "\\|")


def _latex(text: str) -> str:
    return one_line(text).translate(LATEX_SPECIAL)


def _csv_value(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if math.isfinite(value) else MISSING


def _legend() -> str:
    """Explain the cells."""
    return (
        "Mean over seeds and test cases in per cent; in square brackets its 95 % interval, of "
        f"{DRAWS:,} bootstrap draws of {MIN_CASES} or more cases; in round brackets the difference to {SCRATCH} over "
        f"the seeds and cases that both have. Bold: the best of a column. Star: differs from {OURS} (p < "
        f"{SIGNIFICANT}, paired over cases, corrected by Holm for as many comparisons as the column has)."
    )


def _counts(table: Table) -> list[tuple[str, str]]:
    """Return each column's title with the number of test cases and the seeds of its cells."""
    return [(column.title, _counts_of(table, column)) for column in table.columns]


def _notes(table: Table) -> list[str]:
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
    elif cell.interval is None:
        parts.append(f"no interval: {plural(cell.cases, 'case')}, fewer than {MIN_CASES}")
    return parts


def _counts_of(table: Table, column: ColumnKey) -> str:
    alike: dict[tuple[int, tuple[int, ...]], list[str]] = defaultdict(list)
    for method in table.methods:
        cell = table.cells.get((method, column))
        if cell is not None:
            alike[cell.cases, cell.seeds].append(method)
    parts = []
    for (cases, seeds), methods in alike.items():
        counted = f"n = {plural(cases, 'case')}, {'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}"
        parts.append(f"{counted} ({', '.join(methods)})" if len(alike) > 1 else counted)
    return "; ".join(parts) or "no run finished"
