"""Figure 6: validation scores against iterations, and the iterations to 95 % of the best."""

from collections.abc import Iterable, Sequence
from math import ceil

import numpy as np

from gvsl.report.convergence import Speed, mean_curve, mean_of, score_name, speeds, validation
from gvsl.report.figures.chart import SERIES
from gvsl.report.figures.learning import Learning, learning_chart
from gvsl.report.figures.linked import Block, Entry, Panel, with_names
from gvsl.report.grouping import OURS, SCRATCH, ChartGroup, chart_groups
from gvsl.report.numbers import MISSING, number, plural
from gvsl.report.page import Html, element, table
from gvsl.report.runs import Run
from gvsl.report.sections.linked import block
from gvsl.report.sections.names import seed_links

LEAD = (
    "Validation score over the steps of training, a line for each method and the range over its seeds about it. The "
    "diamond stands at the first validated step with 95 % of the run's own best score, the mean over seeds. Features "
    "that are of little use are soon at 95 % of little: the last column asks when a run reaches 95 % of scratch's best."
)
HEADER = (
    "Method",
    "Seeds",
    "Best validation score",
    "Steps to 95 %",
    "Of each seed",
    "Difference to scratch",
    "Steps to scratch's 95 %",
)
OTHERS_AT_MOST = 4
"""Methods in a panel beside scratch and gvsl: as many as there are further colours."""
LINES = ("solid", "dotted", "dashed")
"""Of the methods in the first panel, the second and so on."""


def learning(runs: Sequence[Run]) -> tuple[list[Block], list[Html]]:
    """The figure's blocks, and the same as parts of the page; nothing where there are no two methods to compare."""
    found, alone = chart_groups(
        runs,
        lambda run: run.record.kind == "transfer" and run.record.status == "finished" and validation(run) is not None,
    )
    blocks, parts = [], []
    for study in found:
        fast = speeds(study)
        shown = _block(study, fast)
        blocks.append(shown)
        parts.append(block(shown, _table(study, fast)))
    return blocks, parts + (left_out(alone, "with no other method of the same settings beside it") if found else [])


def left_out(runs: Iterable[Run], why: str) -> list[Html]:
    """A sentence on the runs that are not shown, where there are such."""
    names = [run.label for run in runs]
    return [element("p", f"Not shown, {why}: {', '.join(names)}.", css="quiet")] if names else []


def _block(study: ChartGroup, fast: Sequence[Speed]) -> Block:
    names = list(study.arms)
    groups = _panels(names)
    looks = _looks(names, groups)
    entries = [Entry(name, *looks[name]) for name in names]
    lines = {speed.method: _line(study, speed, names.index(speed.method), looks[speed.method]) for speed in fast}
    limits = _limits(list(lines.values()))
    score = score_name(study.arms[names[0]][0])
    panels = []
    for members in groups:
        said = [f"{speed.method} {_steps(speed.mean_steps)}" for speed in fast if speed.method in members]
        alt = f"Validation {score} over the steps on {study.store}, {study.mode}: {', '.join(members)}"
        svg = learning_chart([lines[name] for name in members], limits, alt, score)
        title = "All methods" if len(groups) == 1 else ", ".join(name for name in members if name != SCRATCH)
        keys = [names.index(name) for name in members]
        panels.append(Panel(title, with_names(svg, entries), f"Steps to 95 %: {', '.join(said)}.", keys))
    return Block(study.title, study.notes, entries, panels)


def _panels(names: Sequence[str]) -> list[list[str]]:
    """The methods of each panel: scratch and gvsl in all of them, the others shared out evenly."""
    always = [name for name in names if name in (SCRATCH, OURS)]
    others = [name for name in names if name not in always]
    count = max(1, ceil(len(others) / OTHERS_AT_MOST))
    parts = [part.tolist() for part in np.array_split(np.arange(len(others)), count)]
    return [[*always, *(others[place] for place in part)] for part in parts]


def _looks(names: Sequence[str], groups: Sequence[Sequence[str]]) -> dict[str, tuple[str, str]]:
    """Colour and dash of each method; two in one panel differ in colour, two in different ones in either."""
    looks = {name: (SERIES[0], "solid") for name in names if name == OURS}
    looks |= {name: (SERIES[1], "dashed") for name in names if name == SCRATCH}
    for place, members in enumerate(groups):
        others = [name for name in members if name not in (SCRATCH, OURS)]
        for name, colour in zip(others, SERIES[2:], strict=False):
            looks[name] = (colour, LINES[place % len(LINES)])
    return looks


def _line(study: ChartGroup, speed: Speed, place: int, look: tuple[str, str]) -> Learning:
    steps, mean, low, high = mean_curve(study.arms[speed.method])
    return Learning(place, *look, steps, mean, low, high, speed.mean_steps)


def _limits(lines: Sequence[Learning]) -> tuple[float, float]:
    """One range for all panels."""
    low = min((float(line.low.min()) for line in lines if line.low.size), default=0.0)
    high = max((float(line.high.max()) for line in lines if line.high.size), default=1.0)
    room = 0.06 * (high - low) or 0.05
    return low - room, high + room


def _table(study: ChartGroup, fast: Sequence[Speed]) -> Html:
    rows: list[list[Html | str]] = []
    for speed in fast:
        gap: Html | str = MISSING
        if speed.gap is not None:
            over = element("small", f"over {plural(speed.shared, 'seed')}")
            gap = Html(element("b", number(speed.gap, 0, signed=True)).code + " " + over.code)
        rows.append(
            [
                speed.method,
                seed_links(study.arms[speed.method]),
                number(speed.best),
                element("b", _steps(speed.mean_steps)),
                ", ".join(map(_steps, speed.steps)),
                gap,
                _reached(speed),
            ]
        )
    return table(HEADER, rows, 1, "Means over seeds, of validation cases alone.")


def _reached(speed: Speed) -> str:
    """The mean step at the level of scratch, and how many seeds get there where not all do."""
    there = [steps for steps in speed.level_steps if steps is not None]
    if not speed.level_steps:
        return MISSING
    if not there:
        return "never"
    mean = _steps(mean_of(there))
    return mean if len(there) == len(speed.level_steps) else f"{mean} ({len(there)} of {len(speed.level_steps)} seeds)"


def _steps(value: float | None) -> str:
    return MISSING if value is None else number(value, 0)
