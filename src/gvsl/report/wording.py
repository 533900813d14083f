"""What the comparisons say, in words."""

from collections.abc import Sequence

from gvsl.report.groups import Group
from gvsl.report.numbers import capital, number, plural, plus_minus
from gvsl.report.pretraining import RANDOM
from gvsl.report.run_figures import held_out
from gvsl.report.runs import Run
from gvsl.report.scores import Difference, Spread, case_ids, difference, of_common_seeds, scores, spread

WAYS = {"finetune": "fine-tuned"}


def verdict(group: Group, method: str) -> str:
    """Say in words what the method's features are worth against random ones of the same seeds."""
    cases = case_ids(group.runs)
    mine, other = of_common_seeds(group.sides[method], group.sides.get(RANDOM, []))
    shown = spread(scores(mine or group.sides[method], cases, "dice"))
    named = capital(feature_name(method, group.protocol))
    labels = "" if group.labels is None else f", {plural(group.labels, 'label')}"
    said = f"{named}{labels}: DSC {number(shown.mean)}{_spread_words(shown)}"
    if RANDOM not in group.sides:
        return f"{said}. There is no run on random features with the same settings to set it against."
    if not mine:
        return f"{said}. No run on random features has the same seed: nothing to set it against."
    against = spread(scores(other, cases, "dice"))
    gap = difference(mine, other, cases, "dice")
    return (
        f"{said}; {feature_name(RANDOM, group.protocol)}: {number(against.mean)}{_spread_words(against)}. "
        f"Difference {number(gap.mean, signed=True)}{_gap_words(gap)}: {standing(gap)}."
    )


def standing(gap: Difference) -> str:
    """Say plainly who is ahead, and how surely."""
    if gap.seeds == 0:
        return "the two sides have no seed in common and are not compared"
    cases = f"in {gap.cases_ahead} of {plural(gap.cases, 'case')}"
    if not gap.mean > 0:
        return f"pre-training is not ahead ({cases})"
    if gap.seeds == 1:
        return f"pre-training is ahead {cases}, one seed only"
    return f"pre-training is ahead {cases} and in {gap.seeds_ahead} of {plural(gap.seeds, 'seed')}"


def comparisons(compared: Sequence[Group]) -> list[tuple[Group, str, Difference]]:
    """Every side with pre-trained features against random ones, where both have a seed in common."""
    found = [
        (group, method, difference(group.sides[method], group.sides[RANDOM], case_ids(group.runs), "dice"))
        for group in compared
        if group.can_be_compared
        for method in group.methods
    ]
    return [item for item in found if item[2].seeds]


def headline(runs: Sequence[Run], compared: Sequence[Group], area_gaps: Sequence[tuple[str, float]] = ()) -> str:
    """The one line to take away from all runs.

    Args:
        runs: all of them.
        compared: the groups.
        area_gaps: protocols and differences in AUC to random features.
    """
    gaps = comparisons(compared)
    if len(gaps) == 1 and not area_gaps:
        group, method, _ = gaps[0]
        sides = of_common_seeds(group.sides[method], group.sides[RANDOM])
        means = [spread(scores(each, case_ids(group.runs), "dice")).mean for each in sides]
        start = capital(feature_name(method, group.protocol))
        other = "from scratch" if group.protocol == "finetune" else "from random ones"
        return f"{start}: DSC {number(means[0])}, against {number(means[1])} {other}"
    if gaps or area_gaps:
        every = [(group.protocol, gap.mean) for group, _, gap in gaps] + list(area_gaps)
        return f"Pre-training is ahead of a random start in {_counted(every)}"
    for run in runs:
        after, before = held_out(run, "ncc"), held_out(run, "ncc_identity")
        if run.record.kind == "pretrain" and after is not None and before is not None:
            return f"On held-out pairs, matching takes ncc from {number(before)} to {number(after)}"
    return "Nothing to compare yet"


def feature_name(name: str, way: str) -> str:
    """Name a side of a comparison as a reader would."""
    if name == RANDOM and way == "finetune":
        return "trained from scratch"
    start = "on" if way == "linear" else "from"
    thing = "features" if way == "linear" else "weights"
    method, bracket, variant = name.partition(" (")
    return f"{WAYS.get(way, way)} {start} {method} {thing}{bracket}{variant}"


def _counted(gaps: Sequence[tuple[str, float]]) -> str:
    """How many of them are above zero, by protocol: `3 of 4 linear and 1 of 2 fine-tuned comparisons`."""
    parts = []
    for way in sorted({way for way, _ in gaps}, key=lambda way: (way != "linear", way)):
        here = [gap for each, gap in gaps if each == way]
        parts.append(f"{sum(gap > 0 for gap in here)} of {len(here)} {WAYS.get(way, way)}")
    return f"{' and '.join(parts)} comparison{'' if len(gaps) == 1 else 's'}"


def _spread_words(value: Spread) -> str:
    seeds = f", {plus_minus(value.over_seeds)} over {plural(value.seeds, 'seed')}" if value.seeds > 1 else ", one seed"
    cases = f" {plus_minus(value.over_cases)} over {plural(value.cases, 'case')}" if value.cases > 1 else ""
    return f"{cases}{seeds if cases else seeds.replace(',', '', 1)}"


def _gap_words(gap: Difference) -> str:
    parts = [] if gap.over_cases is None else [f"{plus_minus(gap.over_cases)} over cases"]
    parts += [] if gap.over_seeds is None else [f"{plus_minus(gap.over_seeds)} over seeds"]
    return f" ({', '.join(parts)})" if parts else ""
