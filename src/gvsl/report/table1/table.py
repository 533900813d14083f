"""Table 1 from records: methods by tasks and modes, each cell with its interval and its test against GVSL."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gvsl.records import RunRecord
from gvsl.report.table1.columns import MODES, SCRATCH, ColumnKey, column_of, sorted_into_columns
from gvsl.report.table1.scores import Scores, gap, holm, interval, p_value, scores_of

__all__ = ["MODES", "OURS", "SCRATCH", "Cell", "ColumnKey", "Place", "Table", "column_of", "table1"]

OURS = "gvsl"
SIGNIFICANT = 0.05
"""The p value below which a cell is said to differ from GVSL's."""

Place = tuple[str, ColumnKey]
"""A method and a column."""


@dataclass(frozen=True)
class Cell:
    """What the runs of a method are worth in one column; figures in per cent, NaN for an AUC of one class."""

    mean: float
    low: float
    high: float
    """The ends of the 95 % bootstrap interval over cases."""
    cases: int
    seeds: tuple[int, ...]
    to_scratch: float | None
    """The difference to the row without pre-training, over the seeds and cases that both have."""
    p_value: float | None
    """Of a paired test over cases against GVSL, corrected by Holm within the column."""
    failed: int = 0
    """Runs that failed; they are in no figure."""
    left_out: int = 0
    """Cases that not every run of the cell has scored; they are in no figure."""
    repeated: tuple[int, ...] = ()
    """Seeds of which there are several runs, of weights that differ; they count as their mean."""

    @property
    def differs(self) -> bool:
        """Whether the test finds it other than GVSL's."""
        return self.p_value is not None and self.p_value < SIGNIFICANT


@dataclass
class Table:
    """Rows, columns and cells; where nothing was run there is no cell."""

    methods: list[str]
    columns: list[ColumnKey]
    cells: dict[Place, Cell] = field(default_factory=dict)
    failed: dict[Place, int] = field(default_factory=dict)
    """Failed runs of cells that have no other."""
    made: dict[Place, list[RunRecord]] = field(default_factory=dict)
    """The finished runs of each cell, by seed."""

    def best(self, column: ColumnKey) -> str | None:
        """The method with the highest mean."""
        rows = [method for method in self.methods if (method, column) in self.cells]
        known = [method for method in rows if math.isfinite(self.cells[method, column].mean)]
        return max(known, key=lambda method: self.cells[method, column].mean, default=None)


def table1(records: Sequence[RunRecord], order: Sequence[str]) -> Table:
    """Compute the table from the transfer records among `records`.

    Args:
        records: of a benchmark; those that failed are counted, and are in no figure.
        order: of the rows; methods that have no record are left out, others come last.

    Raises:
        UserError: runs of one cell have no test case in common.
    """
    found: dict[Place, list[RunRecord]] = defaultdict(list)
    failed: Counter[Place] = Counter()
    for column, members in sorted_into_columns(records).items():
        for record in members:
            method = str(record.config["method"])
            if record.status == "failed":
                failed[method, column] += 1
            elif record.status == "finished" and record.cases:
                found[method, column].append(record)
    columns = sorted({column for _, column in (*found, *failed)}, key=_place_of)
    present = {method for method, _ in (*found, *failed)}
    methods = [*(name for name in order if name in present), *sorted(present - set(order))]
    made = {place: sorted(runs, key=lambda run: (run.seed, run.name)) for place, runs in found.items()}
    table = Table(methods, columns, made=made)
    for column in columns:
        scores = {method: scores_of(made[method, column]) for method in methods if (method, column) in made}
        _fill(table, column, scores, failed)
    return table


def _place_of(column: ColumnKey) -> tuple[bool, str, str, float, str]:
    return column.mode != "linear", column.store, column.metric, column.labels or math.inf, column.settings


def _fill(table: Table, column: ColumnKey, scores: Mapping[str, Scores], failed: Mapping[Place, int]) -> None:
    ours = scores.get(OURS)
    p_values = holm(
        {name: p_value(mine, ours) for name, mine in scores.items() if ours is not None and name != OURS},
    )
    for method in table.methods:
        lost = failed.get((method, column), 0)
        if method not in scores:
            if lost:
                table.failed[method, column] = lost
            continue
        mine = scores[method]
        low, high = interval(mine)
        ahead = gap(mine, scores[SCRATCH]) if method != SCRATCH and SCRATCH in scores else None
        counts = Counter(mine.seeds)
        table.cells[method, column] = Cell(
            mean=100 * mine.figure(),
            low=100 * low,
            high=100 * high,
            cases=mine.values.shape[1],
            seeds=tuple(sorted(counts)),
            to_scratch=None if ahead is None else 100 * ahead,
            p_value=p_values.get(method),
            failed=lost,
            left_out=mine.left_out,
            repeated=tuple(sorted(seed for seed, count in counts.items() if count > 1)),
        )
