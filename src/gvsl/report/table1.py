"""Table 1 from records: methods by tasks and modes, each cell with its interval and its test against GVSL."""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gvsl.results import RunRecord

SCRATCH, OURS = "scratch", "gvsl"
DRAWS = 2000
TAIL = 2.5
"""Per cent of the draws left out on each side of an interval."""
CLASSIFICATIONS = ("classification", "ccc")
"""The tasks whose figure is the AUC."""
MODES = {"linear": "linear", "finetune": "finetune", "scratch": "finetune"}
"""The column that a run's mode belongs to: training from scratch is what fine-tuning is compared with."""

LATEX = str.maketrans(
    {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {sign: f"\\{sign}" for sign in "&%$#_{}"}
)
"""What LaTeX would take for its own."""

Floats = NDArray[np.float64]


class ColumnKey(NamedTuple):
    """One column."""

    mode: str
    store: str
    metric: str
    """`DSC` or `AUC`."""
    labels: int | None = None
    """Labelled training cases that were drawn; None for all that the split has."""

    @property
    def title(self) -> str:
        """What the column holds, but for the metric."""
        return f"{self.store}, {self.mode}" + ("" if self.labels is None else f", {self.labels} labels")


@dataclass(frozen=True)
class Cell:
    """What the runs of a method are worth in one column; figures in per cent."""

    mean: float
    low: float
    high: float
    """The ends of the 95 % bootstrap interval over cases."""
    cases: int
    seeds: tuple[int, ...]
    to_scratch: float | None
    """The difference to the row without pre-training, over the seeds that both have."""
    p_value: float | None
    """Of a paired test over cases against GVSL, corrected by Holm within the column."""
    failed: int = 0
    """Runs that failed; they are in no figure."""


@dataclass
class Table:
    """Rows, columns and cells; where nothing was run there is no cell."""

    methods: list[str]
    columns: list[ColumnKey]
    cells: dict[tuple[str, ColumnKey], Cell] = field(default_factory=dict)
    failed: dict[tuple[str, ColumnKey], int] = field(default_factory=dict)
    """Failed runs of cells that have no other."""

    def best(self, column: ColumnKey) -> str | None:
        """The method with the highest mean."""
        rows = [method for method in self.methods if (method, column) in self.cells]
        return max(rows, key=lambda method: self.cells[method, column].mean, default=None)


class Scores(NamedTuple):
    """Per-case scores of runs of one cell: DSC (seeds, cases), or what an AUC is made of."""

    values: Floats
    """(seeds, cases): the DSC of each case, or its score."""
    targets: Floats | None
    """(cases,): the class of each case, where the figure is an AUC."""
    seeds: tuple[int, ...]

    def figure(self, seeds: Sequence[int] | None = None) -> float:
        """The mean over seeds of the mean DSC, or of the AUC; NaN if all cases are of one class."""
        return float(self.figures(np.ones((1, self.values.shape[1])), seeds)[0])

    def figures(self, counts: Floats, seeds: Sequence[int] | None = None) -> Floats:
        """The same of many draws of cases at once, (draws,).

        Args:
            counts: (draws, cases): how often each case was drawn.
            seeds: those to take the mean over; all if not given.
        """
        rows = self.values if seeds is None else self.values[[self.seeds.index(seed) for seed in seeds]]
        if self.targets is None:
            return np.asarray(counts @ rows.mean(axis=0) / counts.sum(axis=1))
        wanted = self.targets > 0
        ones, zeros = counts[:, wanted], counts[:, ~wanted]
        won = (np.sign(rows[:, wanted, None] - rows[:, None, ~wanted]).mean(axis=0) + 1) / 2
        pairs = ones.sum(axis=1) * zeros.sum(axis=1)
        return np.where(pairs > 0, ((ones @ won) * zeros).sum(axis=1) / np.maximum(pairs, 1), np.nan)


def table1(records: Sequence[RunRecord], order: Sequence[str]) -> Table:
    """Compute the table from the transfer records among `records`.

    Args:
        records: of a benchmark; those that failed are counted, and are in no figure.
        order: of the rows; methods that have no record are left out, others come last.
    """
    found: dict[tuple[str, ColumnKey], list[RunRecord]] = defaultdict(list)
    failed: dict[tuple[str, ColumnKey], int] = defaultdict(int)
    for record in records:
        place = column_of(record)
        if place is not None and record.status == "failed":
            failed[place] += 1
        elif place is not None and record.status == "finished" and record.cases:
            found[place].append(record)
    columns = sorted(
        {column for _, column in (*found, *failed)},
        key=lambda column: (column.mode != "linear", column.store, column.metric, column.labels or math.inf),
    )
    present = {method for method, _ in found} | {method for method, _ in failed}
    methods = [*(name for name in order if name in present), *sorted(present - set(order))]
    table = Table(methods, columns)
    for column in columns:
        _fill(
            table,
            column,
            {method: _scores(found[method, column]) for method in methods if (method, column) in found},
            failed,
        )
    return table


def column_of(record: RunRecord) -> tuple[str, ColumnKey] | None:
    """The method and the column that a record belongs to; None if it is no transfer."""
    mode = MODES.get(str(record.config.get("mode")))
    if record.kind != "transfer" or mode is None:
        return None
    if record.cases:
        metric = "DSC" if "dice" in record.cases[0] else "AUC"
    else:
        metric = "AUC" if record.config.get("task") in CLASSIFICATIONS else "DSC"
    labels = record.config.get("labels")
    drawn = labels if isinstance(labels, int) else None
    return str(record.config["method"]), ColumnKey(mode, record.store["name"], metric, drawn)


def _fill(
    table: Table, column: ColumnKey, scores: Mapping[str, Scores], failed: Mapping[tuple[str, ColumnKey], int]
) -> None:
    p_values = _holm(
        {method: _test(mine, scores[OURS]) for method, mine in scores.items() if method != OURS and OURS in scores}
    )
    for method in table.methods:
        lost = failed.get((method, column), 0)
        if method not in scores:
            if lost:
                table.failed[method, column] = lost
            continue
        mine = scores[method]
        count = mine.values.shape[1]
        low, high = np.nanpercentile(mine.figures(_draws(count)), [TAIL, 100 - TAIL])
        gap = None
        if method != SCRATCH and SCRATCH in scores:
            shared = [seed for seed in mine.seeds if seed in scores[SCRATCH].seeds]
            gap = 100 * (mine.figure(shared) - scores[SCRATCH].figure(shared)) if shared else None
        table.cells[method, column] = Cell(
            100 * mine.figure(),
            100 * float(low),
            100 * float(high),
            count,
            mine.seeds,
            gap,
            p_values.get(method),
            lost,
        )


def _scores(records: Sequence[RunRecord]) -> Scores:
    """The scores of runs on the same cases, in order of their seeds."""
    runs = sorted(records, key=lambda record: record.seed)
    name = "dice" if "dice" in runs[0].cases[0] else "score"
    ids = [str(row["id"]) for row in runs[0].cases]
    by_case = [{str(row["id"]): float(row[name]) for row in run.cases} for run in runs]
    values = np.array([[rows[case] for case in ids] for rows in by_case])
    targets = None if name == "dice" else np.array([float(row["target"]) for row in runs[0].cases])
    return Scores(values, targets, tuple(run.seed for run in runs))


def _draws(count: int) -> Floats:
    """Bootstrap draws of cases, (draws, cases) counts, the same for every cell of as many cases."""
    generator = np.random.default_rng(0)
    drawn = [np.bincount(generator.integers(count, size=count), minlength=count) for _ in range(DRAWS)]
    return np.array(drawn, dtype=np.float64)


def _test(mine: Scores, ours: Scores) -> float | None:
    """Two-sided p value of the difference over cases: Wilcoxon's signed ranks for DSC, the bootstrap for AUC."""
    shared = [seed for seed in mine.seeds if seed in ours.seeds]
    if not shared or mine.values.shape[1] != ours.values.shape[1]:
        return None
    if mine.targets is None:
        from scipy.stats import wilcoxon

        first, second = (each.values[[each.seeds.index(seed) for seed in shared]].mean(axis=0) for each in (mine, ours))
        return 1.0 if np.array_equal(first, second) else float(wilcoxon(first, second).pvalue)
    draws = _draws(mine.values.shape[1])
    gaps = mine.figures(draws, shared) - ours.figures(draws, shared)
    gaps = gaps[np.isfinite(gaps)]
    return float(min(1.0, 2 * (min((gaps <= 0).sum(), (gaps >= 0).sum()) + 1) / (gaps.size + 1)))


def _holm(p_values: Mapping[str, float | None]) -> dict[str, float]:
    """The p values corrected for as many comparisons, step by step from the smallest (Holm, 1979)."""
    known = sorted((value, method) for method, value in p_values.items() if value is not None)
    corrected: dict[str, float] = {}
    so_far = 0.0
    for rank, (value, method) in enumerate(known):
        so_far = max(so_far, min(1.0, (len(known) - rank) * value))
        corrected[method] = so_far
    return corrected


def as_markdown(table: Table) -> str:
    """The table for people: mean with its interval, difference to scratch, a star where GVSL differs (p < 0.05)."""
    lines = ["| method | " + " | ".join(f"{key.title}, {key.metric} %" for key in table.columns) + " |"]
    lines.append("|---" * (1 + len(table.columns)) + "|")
    lines += [
        "| " + " | ".join([method, *(_said(table, method, key) for key in table.columns)]) + " |"
        for method in table.methods
    ]
    return "\n".join(lines) + "\n"


def _said(table: Table, method: str, column: ColumnKey) -> str:
    if (method, column) not in table.cells:
        lost = table.failed.get((method, column), 0)
        return f"failed ({lost})" if lost else ""
    cell = table.cells[method, column]
    mean = f"{cell.mean:.1f}"
    text = f"**{mean}**" if table.best(column) == method else mean
    text += f" [{cell.low:.1f}, {cell.high:.1f}]"
    if cell.to_scratch is not None:
        text += f" ({cell.to_scratch:+.1f})"
    if cell.p_value is not None and cell.p_value < 0.05:
        text += " *"
    return text + f", n {cell.cases} x {len(cell.seeds)}" + (f", {cell.failed} failed" if cell.failed else "")


def as_csv(table: Table) -> str:
    """The table for programs: a row a cell."""
    out = io.StringIO()
    names = [
        "method",
        "store",
        "mode",
        "labels",
        "metric",
        "mean",
        "low",
        "high",
        "to_scratch",
        "p_value",
        "cases",
        "seeds",
        "failed",
    ]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for method in table.methods:
        for key in table.columns:
            cell = table.cells.get((method, key))
            start = [method, key.store, key.mode, "all" if key.labels is None else key.labels, key.metric]
            if cell is not None:
                seeds = " ".join(map(str, cell.seeds))
                figures = [cell.mean, cell.low, cell.high, cell.to_scratch, cell.p_value]
                writer.writerow(
                    [
                        *start,
                        *("" if value is None else f"{value:.6g}" for value in figures),
                        cell.cases,
                        seeds,
                        cell.failed,
                    ]
                )
            elif (method, key) in table.failed:
                writer.writerow([*start, "", "", "", "", "", 0, "", table.failed[method, key]])
    return out.getvalue()


def as_latex(table: Table) -> str:
    """The table for papers: booktabs, the best of a column in bold, the difference to scratch in brackets."""
    head = " & ".join(["Pre-training", *(_escaped(f"{key.title} ({key.metric} %)") for key in table.columns)])
    lines = [r"\begin{tabular}{l" + "c" * len(table.columns) + "}", r"\toprule", head + r" \\", r"\midrule"]
    for method in table.methods:
        cells = [_escaped(method)]
        for key in table.columns:
            cell = table.cells.get((method, key))
            if cell is None:
                cells.append("failed" if (method, key) in table.failed else "--")
                continue
            mean = f"{cell.mean:.1f}"
            mean = rf"\textbf{{{mean}}}" if table.best(key) == method else mean
            cells.append(mean + ("" if cell.to_scratch is None else f" ({cell.to_scratch:+.1f})"))
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _escaped(text: str) -> str:
    return text.translate(LATEX)
