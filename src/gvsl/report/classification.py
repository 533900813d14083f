"""What features are worth for classification: areas under the curve, from the cells of Table 1."""

from collections.abc import Sequence
from dataclasses import dataclass

from gvsl.report.numbers import capital, number, plural
from gvsl.report.pretraining import RANDOM
from gvsl.report.runs import Run
from gvsl.report.table1.table import SCRATCH, Cell, Place, Table, column_of, table1
from gvsl.report.wording import feature_name


@dataclass(frozen=True)
class Classified:
    """The AUC of one method's features on one store, beside that of random ones."""

    store: str
    """With the number of labels where a part was drawn, and the settings where those tell columns apart."""
    protocol: str
    method: str
    mine: Cell
    random: Cell | None
    """None where nothing was run on random features."""
    runs: list[Run]
    """That made the figure."""
    random_runs: list[Run]
    """Those on random features."""

    @property
    def name(self) -> str:
        """As a reader would call it."""
        return feature_name(self.method, self.protocol)


def classified(runs: Sequence[Run]) -> list[Classified]:
    """The finished classification runs by store, protocol and method; random features by themselves where alone."""
    placed = [(run.record, column_of(run.record)) for run in runs]
    table = table1([record for record, place in placed if place is not None and place[1].metric == "AUC"], (SCRATCH,))
    found = []
    for column in table.columns:
        here = [method for method in table.methods if (method, column) in table.cells]
        random = table.cells.get((SCRATCH, column))
        parts = (column.store, "" if column.labels is None else f"{column.labels} labels", column.settings)
        store = ", ".join(part for part in parts if part)
        for method in [method for method in here if method != SCRATCH] or here:
            name = RANDOM if method == SCRATCH else method
            made, other = (_made(runs, table, (each, column)) for each in (method, SCRATCH))
            found.append(Classified(store, column.mode, name, table.cells[method, column], random, made, other))
    return found


def _made(runs: Sequence[Run], table: Table, place: Place) -> list[Run]:
    return [run for record in table.made.get(place, []) for run in runs if run.record is record]


def area_gaps(runs: Sequence[Run]) -> list[tuple[str, float]]:
    """The protocol and the difference in AUC to random features, in per cent, of all methods that have one."""
    found = classified(runs)
    return [(shown.protocol, shown.mine.to_scratch) for shown in found if shown.mine.to_scratch is not None]


def auc_words(cell: Cell) -> str:
    """An AUC with its interval, cases and seeds."""
    interval = f"[{number(cell.low / 100)}, {number(cell.high / 100)}]"
    return f"{number(cell.mean / 100)} {interval} over {plural(cell.cases, 'case')}, {plural(len(cell.seeds), 'seed')}"


def auc_standing(shown: Classified) -> str:
    """Say plainly whether pre-training is ahead."""
    if shown.method == RANDOM or shown.random is None:
        return "there is nothing to set it against"
    gap = shown.mine.to_scratch
    if gap is None:
        return "the two sides have no seed in common"
    if not gap > 0:
        return "pre-training is not ahead"
    inside = shown.mine.mean <= shown.random.high
    return f"pre-training is ahead{', but within the interval of what it is set against' if inside else ''}"


def auc_verdict(shown: Classified) -> str:
    """Say in words what the features are worth for classification."""
    said = f"{capital(shown.name)}: AUC {auc_words(shown.mine)}"
    if shown.random is None or shown.method == RANDOM:
        return f"{said}; {auc_standing(shown)}."
    other = f"{feature_name(RANDOM, shown.protocol)}: {auc_words(shown.random)}"
    gap = shown.mine.to_scratch
    standing = capital(auc_standing(shown))
    if gap is not None:
        standing = f"Difference {number(gap / 100, signed=True)}: {auc_standing(shown)}"
    return f"{said}; {other}. {standing}."
