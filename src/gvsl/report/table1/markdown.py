"""Table 1 for people, as Markdown."""

from gvsl.report.table1.columns import ColumnKey
from gvsl.report.table1.notes import counts, figure, legend, notes
from gvsl.report.table1.table import Table
from gvsl.text import one_line


def as_markdown(table: Table) -> str:
    """The table: mean with its interval, difference to scratch, a star where GVSL differs; under it what that means."""
    heads = [_escaped(f"{key.title}, {key.metric} %") for key in table.columns]
    rows = [[_escaped(method), *(_said(table, method, key) for key in table.columns)] for method in table.methods]
    lines = [_row(["method", *heads]), "|---" * (1 + len(heads)) + "|", *map(_row, rows), ""]
    lines += [legend("Bold", "Star") + " The p values are in the CSV.", ""]
    lines += [f"- {_escaped(title)}: {_escaped(said)}" for title, said in counts(table)]
    lines += [f"- {_escaped(note)}" for note in notes(table)]
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _said(table: Table, method: str, column: ColumnKey) -> str:
    if (method, column) not in table.cells:
        lost = table.failed.get((method, column), 0)
        return f"failed ({lost})" if lost else ""
    cell = table.cells[method, column]
    mean = figure(cell.mean)
    text = f"**{mean}**" if table.best(column) == method else mean
    text += f" [{figure(cell.low)}, {figure(cell.high)}]"
    if cell.to_scratch is not None:
        text += f" ({figure(cell.to_scratch, signed=True)})"
    if cell.differs:
        text += " *"
    return text + f", n {cell.cases} x {len(cell.seeds)}" + (f", {cell.failed} failed" if cell.failed else "")


def _escaped(text: str) -> str:
    """Text that stays in its cell and on its line."""
    return one_line(text).replace("\\", "\\\\").replace("|", "\\|")
