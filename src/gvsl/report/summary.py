"""The figures that the report states, from records alone: pure functions of the runs."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gvsl.report.numbers import capital, number, plural, plus_minus
from gvsl.report.runs import Curve, Run
from gvsl.report.table1 import MODES

Array = NDArray[np.float64]
Key = TypeVar("Key")

RANDOM = "random"
"""The side of a comparison whose features were never trained."""
EXPECTED_TO_DIFFER = (
    *("weights", "weights_keys", "method", "mode", "seed", "train_cases", "out", "name", "resume"),
    "clusters",  # says how features are looked at, and decides no score
    *("allow_leakage", "leakage"),  # follow from the weights
)
"""Settings that differ between the two sides of a comparison, or its seeds, by design."""
MATCHING_FIGURES = ("ncc", "ncc_affine", "ncc_identity", "folded", "dice_before", "dice_after")
END_SHARE = 0.1
"""The share of a curve's last values whose mean is the curve's end."""


@dataclass(frozen=True)
class Spread:
    """A mean with its two spreads, each a standard deviation (n - 1), or None for one value only."""

    mean: float
    over_cases: float | None
    over_seeds: float | None
    cases: int
    runs: int


@dataclass(frozen=True)
class Difference:
    """Pre-trained minus random, paired by case, and by seed where both sides have the seed."""

    mean: float
    over_cases: float | None
    over_seeds: float | None
    cases_ahead: int
    cases: int
    seeds_ahead: int
    seeds: int


@dataclass(frozen=True)
class Group:
    """Transfer runs that can be set against each other: one store, one protocol, several features."""

    store: str
    protocol: str
    settings: str
    """The settings that set this group apart from another of the same store and protocol, or nothing."""
    sides: dict[str, list[Run]]
    """The finished runs of each kind of features, by method; `random` first."""

    @property
    def methods(self) -> list[str]:
        """The sides with pre-trained features."""
        return [name for name in self.sides if name != RANDOM]

    @property
    def runs(self) -> list[Run]:
        """All runs of the group."""
        return [run for runs in self.sides.values() for run in runs]


def side(run: Run) -> str:
    """Say which features a transfer run stands on: `random`, or the method that trained them."""
    config = run.record.config
    return RANDOM if config["weights"] == "scratch" or config["mode"] == "scratch" else str(config["method"])


def protocol(run: Run) -> str:
    """Say which comparison a transfer run belongs to: training from scratch is what fine-tuning is set against."""
    mode = str(run.record.config["mode"])
    return MODES.get(mode, mode)


def case_ids(runs: Iterable[Run]) -> list[str]:
    """The cases that every one of the runs has scored, sorted."""
    sets = [{str(row["id"]) for row in run.record.cases} for run in runs]
    return sorted(set.intersection(*sets)) if sets else []


def scores(runs: Sequence[Run], cases: Sequence[str], key: str) -> Array:
    """The figure `key` of each run and case, (runs, cases); NaN where a run has none."""
    table = np.full((len(runs), len(cases)), np.nan)
    for line, run in enumerate(runs):
        rows = {str(row["id"]): row for row in run.record.cases}
        for column, case in enumerate(cases):
            value = rows.get(case, {}).get(key)
            table[line, column] = np.nan if value is None else float(value)
    return table


def case_means(table: Array) -> Array:
    """The mean over the runs for every case, (cases,); NaN for a case that no run has a figure for."""
    counts = np.isfinite(table).sum(axis=0)
    sums = np.where(np.isfinite(table), table, 0.0).sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def run_means(table: Array) -> Array:
    """The mean over the cases for every run, (runs,)."""
    return case_means(table.T)


def spread(table: Array) -> Spread:
    """The mean of a table (runs, cases), its spread over cases (runs averaged first) and over runs."""
    cases = _finite(case_means(table))
    runs = _finite(run_means(table))
    mean = float(cases.mean()) if cases.size else float("nan")
    return Spread(mean, _deviation(cases), _deviation(runs), int(cases.size), int(runs.size))


def difference(pretrained: Sequence[Run], random: Sequence[Run], cases: Sequence[str], key: str) -> Difference:
    """Pre-trained minus random in the figure `key` over the same cases."""
    by_case = _finite(case_means(scores(pretrained, cases, key)) - case_means(scores(random, cases, key)))
    by_seed = []
    for seed in sorted({run.record.seed for run in pretrained} & {run.record.seed for run in random}):
        first, second = (
            case_means(scores([run for run in runs if run.record.seed == seed], cases, key))
            for runs in (pretrained, random)
        )
        gap = _finite(first - second)
        by_seed += [float(gap.mean())] if gap.size else []
    return Difference(
        mean=float(by_case.mean()) if by_case.size else float("nan"),
        over_cases=_deviation(by_case),
        over_seeds=_deviation(np.asarray(by_seed)),
        cases_ahead=int((by_case > 0).sum()),
        cases=int(by_case.size),
        seeds_ahead=sum(gap > 0 for gap in by_seed),
        seeds=len(by_seed),
    )


def structures(runs: Sequence[Run]) -> list[str]:
    """The structures that the runs' cases are scored by, in the order of their labels."""
    found = {key.removeprefix("dice/") for run in runs for row in run.record.cases for key in row if "dice/" in key}
    by_label = {name: None for run in runs for name in run.record.labels.values()}
    return [name for name in by_label if name in found] + sorted(found - by_label.keys())


def groups(runs: Sequence[Run]) -> list[Group]:
    """Sort the finished transfer runs into groups that can be compared.

    Runs of one store and protocol that differ in another setting are told apart by it where each part then
    still has random and pre-trained features; where not, they stay together and `differing_settings` names
    what differs.
    """
    usable = [run for run in runs if run.record.kind == "transfer" and _has_scores(run)]
    found: list[Group] = []
    for (name, way), members in _sorted_into(usable, _group_key).items():
        parts = _sorted_into(members, lambda run: json.dumps(_settings(run), sort_keys=True, default=str))
        if len(parts) > 1 and all(_has_both_sides(part) for part in parts.values()):
            varying = differing_settings(members)
            for part in parts.values():
                said = ", ".join(f"{key} {_settings(part[0]).get(key)}" for key in varying)
                found.append(Group(name, way, said, _sides(part)))
        else:
            found.append(Group(name, way, "", _sides(members)))
    return sorted(found, key=lambda group: (group.store, group.protocol, group.settings))


def differing_settings(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The settings, beyond weights and seed, in which the runs are not alike, each with its values."""
    flat = [_settings(run) for run in runs]
    names = sorted({name for settings in flat for name in settings})
    values = {name: sorted({str(settings.get(name, "not set")) for settings in flat}) for name in names}
    return {name: found for name, found in values.items() if len(found) > 1}


def curve_end(curve: Curve) -> float:
    """The mean of the last tenth of a curve's values, at least one; NaN where one of them is not finite."""
    count = max(1, round(END_SHARE * curve.values.size))
    return float(curve.values[-count:].mean())


def mean_of_cases(run: Run, key: str) -> float | None:
    """The mean of a figure over the run's cases, or None where no case has it."""
    values = [float(row[key]) for row in run.record.cases if row.get(key) is not None]
    return fmean(values) if values else None


def held_out(run: Run, key: str) -> float | None:
    """A pre-training run's figure over its held-out pairs: the recorded mean, or else that of its rows."""
    recorded = run.record.metrics.get(f"val/{key}")
    return mean_of_cases(run, key) if recorded is None else recorded


def pretext_figures(run: Run) -> list[tuple[str, float]]:
    """A pre-training run's own figures of held-out volumes, other than those of matching, by name."""
    names = [name.removeprefix("val/") for name in run.record.metrics if name.startswith("val/")]
    return [(name, run.record.metrics[f"val/{name}"]) for name in names if name not in MATCHING_FIGURES]


def verdict(group: Group, method: str) -> str:
    """Say in words what the method's features are worth against random ones."""
    cases = case_ids(group.runs)
    mine = group.sides[method]
    first = spread(scores(mine, cases, "dice"))
    said = f"{capital(feature_name(method, group.protocol))}: DSC {number(first.mean)}{_spread_words(first)}"
    if RANDOM not in group.sides:
        return f"{said}. There is no run on random features to set it against."
    other = spread(scores(group.sides[RANDOM], cases, "dice"))
    gap = difference(mine, group.sides[RANDOM], cases, "dice")
    return (
        f"{said}; {feature_name(RANDOM, group.protocol)}: {number(other.mean)}{_spread_words(other)}. "
        f"Difference {number(gap.mean, signed=True)}{_gap_words(gap)}: {standing(gap)}."
    )


def standing(gap: Difference) -> str:
    """Say plainly who is ahead, and how surely."""
    if not gap.mean > 0:
        return "pre-training is not ahead"
    cases = f"in {gap.cases_ahead} of {plural(gap.cases, 'case')}"
    if gap.seeds == 0:
        return f"pre-training is ahead {cases}, with no seed in common"
    if gap.seeds == 1:
        return f"pre-training is ahead {cases}, one seed only"
    return f"pre-training is ahead {cases} and in {gap.seeds_ahead} of {plural(gap.seeds, 'seed')}"


def headline(runs: Sequence[Run], compared: Sequence[Group], area_gaps: Sequence[float] = ()) -> str:
    """The one line to take away from all runs; `area_gaps` are the differences in AUC to random features."""
    gaps = [
        (group, method, difference(group.sides[method], group.sides[RANDOM], case_ids(group.runs), "dice"))
        for group in compared
        if RANDOM in group.sides
        for method in group.methods
    ]
    if len(gaps) == 1 and not area_gaps:
        group, method, _ = gaps[0]
        means = [spread(scores(group.sides[name], case_ids(group.runs), "dice")).mean for name in (method, RANDOM)]
        start = capital(feature_name(method, group.protocol))
        other = "from scratch" if group.protocol == "finetune" else "from random ones"
        return f"{start}: DSC {number(means[0])}, against {number(means[1])} {other}"
    if gaps or area_gaps:
        every = [gap.mean for _, _, gap in gaps] + list(area_gaps)
        count = plural(len(every), "comparison")
        return f"Pre-training is ahead of a random start in {sum(gap > 0 for gap in every)} of {count}"
    for run in runs:
        after, before = held_out(run, "ncc"), held_out(run, "ncc_identity")
        if run.record.kind == "pretrain" and after is not None and before is not None:
            return f"On held-out pairs, matching takes ncc from {number(before)} to {number(after)}"
    return "Nothing to compare yet"


def feature_name(name: str, way: str) -> str:
    """Name a side of a comparison as a reader would."""
    if name == RANDOM and way == "finetune":
        return "trained from scratch"
    verb = {"linear": "linear", "finetune": "fine-tuned"}.get(way, way)
    start = "on" if way == "linear" else "from"
    thing = "features" if way == "linear" else "weights"
    return f"{verb} {start} {name} {thing}"


def _spread_words(value: Spread) -> str:
    seeds = f", {plus_minus(value.over_seeds)} over {plural(value.runs, 'seed')}" if value.runs > 1 else ", one seed"
    cases = f" {plus_minus(value.over_cases)} over {plural(value.cases, 'case')}" if value.cases > 1 else ""
    return f"{cases}{seeds if cases else seeds.replace(',', '', 1)}"


def _gap_words(gap: Difference) -> str:
    parts = [] if gap.over_cases is None else [f"{plus_minus(gap.over_cases)} over cases"]
    parts += [] if gap.over_seeds is None else [f"{plus_minus(gap.over_seeds)} over seeds"]
    return f" ({', '.join(parts)})" if parts else ""


def _finite(values: Array) -> Array:
    return values[np.isfinite(values)]


def _deviation(values: Array) -> float | None:
    return float(values.std(ddof=1)) if values.size > 1 else None


def _has_scores(run: Run) -> bool:
    return run.record.status == "finished" and mean_of_cases(run, "dice") is not None


def _group_key(run: Run) -> tuple[str, str]:
    return run.store, protocol(run)


def _sorted_into(runs: Iterable[Run], key: Callable[[Run], Key]) -> dict[Key, list[Run]]:
    found: dict[Key, list[Run]] = {}
    for run in runs:
        found.setdefault(key(run), []).append(run)
    return found


def _sides(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """The runs by their features, random ones first, each side by seed."""
    found = _sorted_into(sorted(runs, key=lambda run: run.record.seed), side)
    return {name: found[name] for name in sorted(found, key=lambda name: (name != RANDOM, name))}


def _has_both_sides(runs: Sequence[Run]) -> bool:
    names = {side(run) for run in runs}
    return RANDOM in names and len(names) > 1


def _settings(run: Run) -> dict[str, Any]:
    """The run's settings, nested names joined by dots, without those that differ by design."""
    return {name: value for name, value in flat_settings(run.record.config).items() if not _by_design(name)}


def _by_design(name: str) -> bool:
    return name.split(".")[0] in EXPECTED_TO_DIFFER


def flat_settings(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level, names joined by dots."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict) and value:
            flat |= flat_settings(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
