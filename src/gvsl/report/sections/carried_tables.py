"""Tables of arms with carried labels: against the same arm without, draw by draw, and how the matching went."""

from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple

import numpy as np

from gvsl.metrics.bootstrap import MIN_CASES
from gvsl.metrics.student import t_interval
from gvsl.records.comparability import CARRY, differences, labels_of
from gvsl.report.grouping import CARRIED, RANDOM, STUDENT, TRANSDUCTIVE
from gvsl.report.label_charts import LabelChart, LabelCurve
from gvsl.report.numbers import MISSING, number, plural
from gvsl.report.page import Html, table, value_cell
from gvsl.report.run_arrays import Array
from gvsl.report.runs import Run
from gvsl.report.scores import case_ids, row_means, scores
from gvsl.report.sections.names import seed_links

BASELINES = {STUDENT: "finetune", TRANSDUCTIVE: "finetune", CARRIED: CARRIED}
"""The protocol of an arm's baseline."""


class Paired(NamedTuple):
    """Runs of an arm and of its baseline that were trained on the same labelled cases, in the same order."""

    mine: list[Run]
    other: list[Run]


def carried_tables(chart: LabelChart) -> list[Html]:
    """Return the tables for which a chart has runs: gains draw by draw, and the matching of carried labels."""
    counts = sorted({point.labels for curve in chart.curves for point in curve.points})
    header = ["", *(plural(count, "label") for count in counts)]
    gains: list[list[Html | str]] = [
        [name, *(_gain(found.get(count)) for count in counts)] for name, found in paired_curves(chart)
    ]
    carried = {
        curve.name: {point.labels: point.runs for point in curve.points}
        for curve in chart.curves
        if curve.protocol == CARRIED
    }
    matched: list[list[Html | str]] = [
        [name, *(_matching(found.get(count, [])) for count in counts)] for name, found in carried.items()
    ]
    captions = (
        "Difference in test DSC draw by draw, both arms on the same labelled cases: the mean with its 95 % interval "
        f"over draws (Student's t), of fewer than {MIN_CASES} draws their range instead, and the draws in which the "
        "first arm is ahead.",
        "Seconds a volume (median), and matches that failed by their own check; those are scored all the same.",
    )
    return [table(header, rows, caption) for rows, caption in zip((gains, matched), captions, strict=True) if rows]


def paired_curves(chart: LabelChart) -> Iterator[tuple[str, dict[int, Paired]]]:
    """Yield each arm with carried labels against each of its baselines: their names, and runs by number of labels.

    A student is compared with training from scratch and with fine-tuning from its own weights, carried labels with
    those carried from no network. The two agree in every other setting, the seed and the labelled cases.
    """
    for curve in chart.curves:
        for other in chart.curves:
            fits = other.protocol == BASELINES.get(curve.protocol) and other.arm in (RANDOM, curve.arm)
            if other is curve or not fits:
                continue
            found = _pairs(curve, other)
            if found:
                yield f"{curve.name}, against {other.name}", found


def _pairs(curve: LabelCurve, other: LabelCurve) -> dict[int, Paired]:
    """Return the pairs of runs of two curves that may be compared, by number of labels."""
    found: dict[int, Paired] = {}
    theirs = [run for point in other.points for run in point.runs]
    for point in curve.points:
        for run in point.runs:
            match = next((each for each in theirs if _comparable(run, each)), None)
            if match is not None:
                pairs = found.setdefault(point.labels, Paired([], []))
                pairs.mine.append(run)
                pairs.other.append(match)
    return found


def _comparable(run: Run, other: Run) -> bool:
    """Return True if two runs differ in their weights or carried labels alone."""
    one, two = run.record, other.record
    drawn = [record.config.get("train_cases") for record in (one, two)]
    alike = (one.seed, labels_of(one)) == (two.seed, labels_of(two)) and drawn[0] == drawn[1]
    return alike and all(change.name == CARRY for change in differences(one, two))


def gaps(pairs: Paired) -> Array:
    """Return the difference of each draw, a mean over the cases that all have scored, (draws,)."""
    cases = case_ids([*pairs.mine, *pairs.other])
    return row_means(np.subtract(*(scores(runs, cases, "dice") for runs in pairs)))


def _gain(pairs: Paired | None) -> Html | str:
    if pairs is None:
        return MISSING
    found = gaps(pairs)
    ahead = f"ahead in {int((found > 0).sum())} of {plural(found.size, 'draw')}, "
    note = f"{_spread(found)}{ahead}seed{'' if found.size == 1 else 's'} "
    return value_cell(number(float(found.mean()), signed=True), note, seed_links(pairs.mine))


def _spread(found: Array) -> str:
    """Return the interval over draws, or their range if they are few; empty for a single one."""
    if found.size < 2:
        return ""
    interval = t_interval(found.tolist())
    ends = interval or (float(found.min()), float(found.max()))
    text = " to ".join(number(end, signed=True) for end in ends)
    return f"{'range' if interval is None else '95 %'} {text}, "


def _matching(runs: Sequence[Run]) -> Html | str:
    seconds = [value for run in runs if (value := run.record.metrics.get("seconds_per_volume")) is not None]
    if not seconds:
        return MISSING
    failed = sum(len(run.record.config.get("carry_failed", [])) for run in runs)
    volumes = sum(int(run.record.config.get(name, 0)) for run in runs for name in ("val_cases", "test_cases"))
    return value_cell(f"{median(seconds):.2f} s", f"{failed} of {volumes} failed, seeds ", seed_links(runs))
