"""The comparisons in words: DSC and AUC of pre-trained features against random ones."""

from collections.abc import Sequence
from dataclasses import dataclass

from gvsl.report.grouping import CARRIED, RANDOM, SCRATCH, STUDENT, TRANSDUCTIVE, Group
from gvsl.report.matching import matching_verdict
from gvsl.report.numbers import capital, number, plural, plus_minus
from gvsl.report.run_metrics import evaluated, measured
from gvsl.report.runs import Run
from gvsl.report.scores import Spread
from gvsl.report.table1.table import Cell, Table

PROTOCOLS = {"finetune": "fine-tuned", STUDENT: "student, fine-tuned", TRANSDUCTIVE: "transductive student, fine-tuned"}
UNTRAINED = {
    "finetune": "trained from scratch",
    STUDENT: "student, trained from scratch",
    TRANSDUCTIVE: "transductive student, trained from scratch",
    CARRIED: "carried from no network",
}
"""The arm without pre-trained weights."""


@dataclass(frozen=True)
class AucComparison:
    """The AUC of one arm, beside that of random features."""

    store: str
    """The store, with the number of labels and the settings if these separate columns of Table 1."""
    protocol: str
    arm: str
    mine: Cell
    random: Cell | None
    """None if there is no run on random features."""

    @property
    def name(self) -> str:
        """The arm's name for a reader."""
        return feature_name(self.arm, self.protocol)

    @property
    def outcome(self) -> str:
        """State if pre-training is ahead."""
        if self.arm == RANDOM or self.random is None:
            return "there is nothing to compare with"
        gap = self.mine.to_scratch
        if gap is None:
            return "the two arms have no seed in common"
        if not gap > 0:
            return "pre-training is not ahead"
        if self.random.interval is None:
            return f"pre-training is ahead, in {plural(self.random.cases, 'case')}, too few for an interval"
        inside = self.mine.mean <= self.random.interval[1]
        return f"pre-training is ahead{', but within the interval of random features' if inside else ''}"

    @property
    def verdict(self) -> str:
        """State both AUCs and the outcome."""
        text = f"{capital(self.name)}: AUC {_auc_text(self.mine)}"
        if self.random is None or self.arm == RANDOM:
            return f"{text}; {self.outcome}."
        other = f"{feature_name(RANDOM, self.protocol)}: {_auc_text(self.random)}"
        gap = self.mine.to_scratch
        outcome = self.outcome if gap is None else f"difference {number(gap / 100, signed=True)}: {self.outcome}"
        return f"{text}; {other}. {capital(outcome)}."


def auc_comparisons(table: Table) -> list[AucComparison]:
    """Return the arms of the AUC columns of Table 1; random features only where they are alone."""
    found = []
    for column in table.columns:
        here = [row for row in table.methods if (row, column) in table.cells] if column.metric == "AUC" else []
        random = table.cells.get((SCRATCH, column))
        parts = (column.store, "" if column.labels is None else f"{column.labels} labels", column.settings)
        store = ", ".join(part for part in parts if part)
        for row in [row for row in here if row != SCRATCH] or here:
            arm = RANDOM if row == SCRATCH else row
            found.append(AucComparison(store, column.mode, arm, table.cells[row, column], random))
    return found


def verdict(group: Group, method: str) -> str:
    """State the DSC of a method's features and of random ones of the same seeds, and the outcome."""
    arms = group.compared(method)
    shown = group.spread(arms[method])
    named = capital(feature_name(method, group.protocol))
    labels = "" if group.labels is None else f", {plural(group.labels, 'label')}"
    text = f"{named}{labels}: DSC {number(shown.mean)}{_spread_text(shown)}"
    if RANDOM not in group.arms:
        return f"{text}. There is no run {start_of(group.protocol)} with the same settings to compare with."
    if RANDOM not in arms:
        return f"{text}. No run {start_of(group.protocol)} has the same seed: there is nothing to compare with."
    against, gap = group.spread(arms[RANDOM]), group.lead(method)
    return (
        f"{text}; {feature_name(RANDOM, group.protocol)}: {number(against.mean)}{_spread_text(against)}. "
        f"Difference {number(gap.mean, signed=True)}{_gap_text(gap)}: {outcome(gap)}."
    )


def outcome(gap: Spread) -> str:
    """State which arm is ahead, and in how many cases and seeds."""
    if gap.seeds == 0:
        return "the two arms have no seed in common and are not compared"
    cases = f"in {gap.cases_ahead} of {plural(gap.cases, 'case')}"
    if not gap.mean > 0:
        return f"pre-training is not ahead ({cases})"
    if gap.seeds == 1:
        return f"pre-training is ahead {cases}, one seed only"
    return f"pre-training is ahead {cases} and in {gap.seeds_ahead} of {plural(gap.seeds, 'seed')}"


def comparisons(compared: Sequence[Group]) -> list[tuple[Group, str, Spread]]:
    """Return each arm with pre-trained features that has a seed in common with random ones, and its difference."""
    found = [(group, method) for group in compared if group.can_be_compared for method in group.methods]
    return [(group, method, gap) for group, method in found if (gap := group.lead(method)).seeds]


def headline(runs: Sequence[Run], compared: Sequence[Group], aucs: Sequence[AucComparison] = ()) -> str:
    """Return the main result in one line.

    Args:
        runs: all runs.
        compared: the groups that are scored by DSC.
        aucs: the comparisons of AUC.
    """
    gaps = comparisons(compared)
    auc_gaps = [(shown.protocol, shown.mine.to_scratch) for shown in aucs if shown.mine.to_scratch is not None]
    if len(gaps) == 1 and not auc_gaps:
        group, method, _ = gaps[0]
        means = {name: number(group.spread(runs).mean) for name, runs in group.compared(method).items()}
        start = capital(feature_name(method, group.protocol))
        other = "from random ones" if group.protocol == "linear" else start_of(group.protocol)
        return f"{start}: DSC {means[method]}, against {means[RANDOM]} {other}"
    if gaps or auc_gaps:
        every = [(group.protocol, gap.mean) for group, _, gap in gaps] + auc_gaps
        return f"Pre-training is ahead in {_counts(every)}"
    for run in runs:
        after, before = measured(run, "ncc"), measured(run, "ncc_identity")
        if run.record.kind == "pretrain" and after is not None and before is not None:
            shown, pairs = matching_verdict(run), evaluated([run], "pairs")
            ends = f"ncc {number(after)}, {number(before)} without"
            if shown is None or not shown.known:
                return f"On {pairs}, matching is not shown yet ({ends})"
            beats = "beats another pair's field and blur" if shown.field.shown else "does not beat its controls"
            return f"On {pairs}, matching {beats} ({ends})"
    return "Nothing to compare yet"


def feature_name(arm: str, protocol: str) -> str:
    """Return the name of an arm for a reader."""
    if arm == RANDOM and protocol in UNTRAINED:
        return UNTRAINED[protocol]
    if protocol == CARRIED:
        return f"carried by {arm}"
    start = "on" if protocol == "linear" else "from"
    thing = "features" if protocol == "linear" else "weights"
    method, bracket, variant = arm.partition(" (")
    return f"{PROTOCOLS.get(protocol, protocol)} {start} {method} {thing}{bracket}{variant}"


def start_of(protocol: str, pretrained: bool = False) -> str:
    """Return what runs of a protocol start from, for a sentence: `on random features`."""
    if protocol == "linear":
        return "on pre-trained features" if pretrained else "on random features"
    if protocol == CARRIED:
        return "with a network" if pretrained else "without a network"
    return "from pre-trained weights" if pretrained else "from scratch"


def auc_interval(cell: Cell) -> str:
    """Format the interval of an AUC in square brackets; empty if it has none."""
    return "" if cell.interval is None else f"[{', '.join(number(end / 100) for end in cell.interval)}]"


def _auc_text(cell: Cell) -> str:
    interval = f" {auc_interval(cell)}" if cell.interval else ""
    return f"{number(cell.mean / 100)}{interval} over {plural(cell.cases, 'case')}, {plural(len(cell.seeds), 'seed')}"


def _counts(gaps: Sequence[tuple[str, float]]) -> str:
    """Return how many gaps are positive, by protocol: `3 of 4 linear and 1 of 2 fine-tuned comparisons`."""
    parts = []
    for protocol in sorted({each for each, _ in gaps}, key=lambda each: (each != "linear", each)):
        here = [gap for each, gap in gaps if each == protocol]
        parts.append(f"{sum(gap > 0 for gap in here)} of {len(here)} {PROTOCOLS.get(protocol, protocol)}")
    return f"{' and '.join(parts)} comparison{'' if len(gaps) == 1 else 's'}"


def _spread_text(value: Spread) -> str:
    seeds = f", {plus_minus(value.over_seeds)} over {plural(value.seeds, 'seed')}" if value.seeds > 1 else ", one seed"
    cases = f" {plus_minus(value.over_cases)} over {plural(value.cases, 'case')}" if value.cases > 1 else ""
    return f"{cases}{seeds if cases else seeds.replace(',', '', 1)}"


def _gap_text(gap: Spread) -> str:
    parts = [] if gap.over_cases is None else [f"{plus_minus(gap.over_cases)} over cases"]
    parts += [] if gap.over_seeds is None else [f"{plus_minus(gap.over_seeds)} over seeds"]
    return f" ({', '.join(parts)})" if parts else ""
