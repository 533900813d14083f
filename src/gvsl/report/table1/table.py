"""Table 1: arms by groups of comparable runs, each cell with its interval and its test against GVSL."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from gvsl.metrics.bootstrap import Interval
from gvsl.report.grouping import OURS, RANDOM, SCRATCH, Group
from gvsl.report.runs import Run
from gvsl.report.table1.cell_scores import Scores, gap, holm, interval, p_value, scores_of

SIGNIFICANT = 0.05
"""The p value below which a cell is marked as different from GVSL's."""


class ColumnKey(NamedTuple):
    """One column: a group of comparable runs."""

    mode: str
    store: str
    metric: str
    """`DSC` or `AUC`."""
    labels: int | None = None
    """Labelled training cases, if other columns of the store, mode and metric have another number; else None."""
    settings: str = ""
    """The settings that separate the column from others of its kind; may be empty."""

    @property
    def title(self) -> str:
        """A heading without the metric."""
        labels = "" if self.labels is None else f", {self.labels} labels"
        return f"{self.store}, {self.mode}{labels}" + (f", {self.settings}" if self.settings else "")


Index = tuple[str, ColumnKey]
"""A method and a column."""


@dataclass(frozen=True)
class Cell:
    """The scores of an arm in one column; in per cent, NaN for an AUC of one class."""

    mean: float
    interval: Interval | None
    """The 95 % bootstrap interval over cases; None of fewer than 5, and of an AUC of one class."""
    cases: int
    seeds: tuple[int, ...]
    to_scratch: float | None
    """The difference to the row without pre-training, over the seeds and cases that both have."""
    p_value: float | None
    """Of a paired test over cases against GVSL, corrected by Holm within the column."""
    failed: int = 0
    """The number of failed runs, which are ignored."""
    left_out: int = 0
    """The number of cases that not every run of the cell has scored, which are ignored."""
    repeated: tuple[int, ...] = ()
    """Seeds with several runs, which count as their mean."""
    runs: list[Run] = field(default_factory=list, compare=False)
    """The finished runs, by seed."""

    @property
    def differs(self) -> bool:
        """True if the test finds the cell different from GVSL's."""
        return self.p_value is not None and self.p_value < SIGNIFICANT


@dataclass
class Table:
    """Rows, columns and cells; a row is an arm, a method or a method with what differs in its pre-training."""

    methods: list[str]
    columns: list[ColumnKey]
    cells: dict[Index, Cell] = field(default_factory=dict)
    """Of the arms that have finished runs."""
    failed: dict[Index, int] = field(default_factory=dict)
    """The number of failed runs of arms without a cell."""
    labels: dict[ColumnKey, int] = field(default_factory=dict)
    """Labelled training cases of each column whose records state them, also where its title does not."""

    def best(self, column: ColumnKey) -> str | None:
        """Return the method with the highest mean."""
        rows = [method for method in self.methods if (method, column) in self.cells]
        known = [method for method in rows if math.isfinite(self.cells[method, column].mean)]
        return max(known, key=lambda method: self.cells[method, column].mean, default=None)

    def in_order(self, order: Sequence[str]) -> "Table":
        """Return the table with its rows in the order of their methods; methods that `order` lacks come last."""
        ranks = {method: rank for rank, method in enumerate(order)}
        rows = sorted(self.methods, key=lambda name: (ranks.get(name.partition(" (")[0], len(ranks)), name))
        return replace(self, methods=rows)


def table1(groups: Sequence[Group]) -> Table:
    """Compute the table, `scratch` first.

    Raises:
        UserError: the runs of one cell have no test case in common.
    """
    columns = {_key_of(group): group for group in groups}
    rows = {row for group in groups for row in _rows_of(group).values()}
    table = Table(sorted(rows), sorted(columns, key=_rank_of))
    table.labels = {column: group.labels for column, group in columns.items() if group.labels is not None}
    for column in table.columns:
        _fill(table, column, columns[column])
    return table.in_order((SCRATCH,))


def _key_of(group: Group) -> ColumnKey:
    labels = group.labels if group.labels_vary else None
    return ColumnKey(group.protocol, group.store, group.metric, labels, group.settings)


def _rows_of(group: Group) -> dict[str, str]:
    """Return the row of each arm: random features are the `scratch` of a probe, unless the group has one already."""
    arms = {*group.arms, *group.failed}
    return {arm: SCRATCH if arm == RANDOM and SCRATCH not in arms else arm for arm in arms}


def _rank_of(column: ColumnKey) -> tuple[bool, str, str, float, str]:
    return column.mode != "linear", column.store, column.metric, column.labels or math.inf, column.settings


def _fill(table: Table, column: ColumnKey, group: Group) -> None:
    rows = _rows_of(group)
    arms = {rows[arm]: runs for arm, runs in group.arms.items()}
    failed = {rows[arm]: count for arm, count in group.failed.items()}
    scores = {name: scores_of(runs) for name, runs in arms.items()}
    table.failed |= {(name, column): count for name, count in failed.items() if name not in scores}
    p_values = _p_values(scores)
    for name, mine in scores.items():
        ends = interval(mine)
        ahead = gap(mine, scores[SCRATCH]) if name != SCRATCH and SCRATCH in scores else None
        seeds = Counter(mine.seeds)
        table.cells[name, column] = Cell(
            mean=100 * mine.mean(),
            interval=None if ends is None else (100 * ends[0], 100 * ends[1]),
            cases=mine.values.shape[1],
            seeds=tuple(sorted(seeds)),
            to_scratch=None if ahead is None else 100 * ahead,
            p_value=p_values.get(name),
            failed=failed.get(name, 0),
            left_out=mine.left_out,
            repeated=tuple(sorted(seed for seed, count in seeds.items() if count > 1)),
            runs=sorted(arms[name], key=lambda run: (run.record.seed, run.record.name)),
        )


def _p_values(scores: Mapping[str, Scores]) -> dict[str, float]:
    """Return the p value of each row's difference to GVSL, corrected within the column."""
    ours = scores.get(OURS)
    return {} if ours is None else holm({name: p_value(mine, ours) for name, mine in scores.items() if name != OURS})
