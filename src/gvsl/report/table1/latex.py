"""Table 1 for papers, as LaTeX."""

from gvsl.report.table1.columns import ColumnKey
from gvsl.report.table1.notes import counts, figure, legend, notes
from gvsl.report.table1.table import Table
from gvsl.text import one_line

OWN = str.maketrans(
    {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"}
    | {"[": "{[}", "]": "{]}"}  # a bracket after a row's end would be taken for its option
    | {sign: f"\\{sign}" for sign in "&%$#_{}"}
)
"""What LaTeX would take for its own, or print as something else."""
PACKAGES = "% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}"


def as_latex(table: Table) -> str:
    """A table with booktabs: means, intervals, differences and stars; what they are of in its caption and notes."""
    head = " & ".join(["Pre-training", *(_escaped(f"{key.title} ({key.metric} %)") for key in table.columns)])
    rows = [
        " & ".join([_escaped(method), *(_said(table, method, key) for key in table.columns)])
        for method in table.methods
    ]
    under = [f"{title}: {said}." for title, said in counts(table)] + notes(table)
    lines = [
        PACKAGES,
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escaped(legend('Bold', 'Star'))}}}",
        rf"\begin{{tabular}}{{l{'c' * len(table.columns)}}}",
        r"\toprule",
        rf"{head} \\",
        r"\midrule",
        *(rf"{row} \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        "",
        r"\medskip",
        rf"{{\footnotesize {' '.join(map(_escaped, under))}\par}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _said(table: Table, method: str, column: ColumnKey) -> str:
    cell = table.cells.get((method, column))
    if cell is None:
        lost = table.failed.get((method, column), 0)
        return f"failed ({lost})" if lost else "--"
    mean = figure(cell.mean)
    text = rf"\textbf{{{mean}}}" if table.best(column) == method else mean
    text += rf" {{\scriptsize [{figure(cell.low)}, {figure(cell.high)}]}}"
    if cell.to_scratch is not None:
        text += f" (${figure(cell.to_scratch, signed=True)}$)"
    return text + ("$^{*}$" if cell.differs else "")


def _escaped(text: str) -> str:
    return one_line(text).translate(OWN)
