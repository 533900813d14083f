"""Figure 6: validation scores over the steps, and the steps to 95 % of the best score."""

from collections.abc import Sequence
from functools import partial
from math import ceil

import numpy as np

from gvsl.report.convergence import Speed, mean_curve, score_name, speeds, validation
from gvsl.report.figures.chart import SERIES
from gvsl.report.figures.score_lines import ScoreLine, draw_scores_by_step
from gvsl.report.grouping import OURS, SCRATCH, Group, chart_groups
from gvsl.report.numbers import MISSING, mean_of, number, plural
from gvsl.report.page import Html, element, table, value_cell
from gvsl.report.panels import Block, Entry, Panel
from gvsl.report.runs import Run
from gvsl.report.sections.names import seed_links

LEARNING_LEAD = (
    "Validation score over the steps of training: a line for each method, within the range over its seeds. The diamond "
    "marks the first validated step with 95 % of the run's own best score, a mean over seeds. Features of little use "
    "soon reach 95 % of little; the last column therefore gives the steps to 95 % of the best score of scratch."
)
HEADER = (
    *("Method", "Seeds", "Best validation score", "Steps to 95 %", "Of each seed"),
    *("Difference to scratch", "Steps to scratch's 95 %"),
)
MAX_OTHERS = 4
"""Maximum number of methods in a panel beside scratch and gvsl: the number of remaining colours."""
LINES = ("solid", "dotted", "dashed")
"""Line styles of the methods in the first panel, the second and so on."""


def learning(runs: Sequence[Run]) -> tuple[list[tuple[Block, Html]], list[Run]]:
    """Return the figure's blocks with their tables, and the runs without another method to compare with."""
    found, alone = chart_groups(runs, _is_shown)
    measured = [(group, speeds(group)) for group in found]
    return [(_block(group, fast), _table(group, fast)) for group, fast in measured], alone


def _is_shown(run: Run) -> bool:
    return run.record.kind == "transfer" and run.record.status == "finished" and validation(run) is not None


def _block(group: Group, fast: Sequence[Speed]) -> Block:
    names = list(group.arms)
    panel_methods = _panel_methods(names)
    looks = _looks(panel_methods)
    lines = {
        speed.method: ScoreLine(
            names.index(speed.method), *looks[speed.method], *mean_curve(group.arms[speed.method]), speed.mean_steps
        )
        for speed in fast
    }
    limits = _limits(list(lines.values()))
    score = score_name(group.arms[names[0]][0])
    panels = []
    for members in panel_methods:
        steps = [f"{speed.method} {_steps(speed.mean_steps)}" for speed in fast if speed.method in members]
        panels.append(
            Panel(
                "All methods" if len(panel_methods) == 1 else ", ".join(name for name in members if name != SCRATCH),
                partial(draw_scores_by_step, lines=[lines[name] for name in members], limits=limits, score=score),
                f"Validation {score} over the steps on {group.store}, {group.protocol}: {', '.join(members)}",
                f"Steps to 95 %: {', '.join(steps)}.",
                [names.index(name) for name in members],
            )
        )
    return Block(group.title, group.notes, [Entry(name, *looks[name]) for name in names], panels)


def _panel_methods(names: Sequence[str]) -> list[list[str]]:
    """Return the methods of each panel: scratch and gvsl in all of them, the others distributed evenly."""
    always = [name for name in names if name in (SCRATCH, OURS)]
    others = [name for name in names if name not in always]
    count = max(1, ceil(len(others) / MAX_OTHERS))
    return [[*always, *part] for part in np.array_split(np.array(others, dtype=object), count)]


def _looks(groups: Sequence[Sequence[str]]) -> dict[str, tuple[str, str]]:
    """Return the colour and dash of each method; methods of one panel differ in colour, all others in either."""
    looks = {OURS: (SERIES[0], "solid"), SCRATCH: (SERIES[1], "dashed")}
    for place, members in enumerate(groups):
        others = [name for name in members if name not in (SCRATCH, OURS)]
        looks |= {name: (colour, LINES[place % len(LINES)]) for name, colour in zip(others, SERIES[2:], strict=False)}
    return looks


def _limits(lines: Sequence[ScoreLine]) -> tuple[float, float]:
    """Return one range for all panels."""
    low = min((float(line.low.min()) for line in lines if line.low.size), default=0.0)
    high = max((float(line.high.max()) for line in lines if line.high.size), default=1.0)
    margin = 0.06 * (high - low) or 0.05
    return low - margin, high + margin


def _table(group: Group, fast: Sequence[Speed]) -> Html:
    rows = [
        [
            speed.method,
            seed_links(group.arms[speed.method]),
            number(speed.best),
            element("b", _steps(speed.mean_steps)),
            ", ".join(map(_steps, speed.steps)),
            MISSING
            if speed.gap is None
            else value_cell(number(speed.gap, 0, signed=True), f"over {plural(speed.paired, 'seed')}"),
            _reached(speed),
        ]
        for speed in fast
    ]
    return table(HEADER, rows, "Means over seeds, of validation cases alone.")


def _reached(speed: Speed) -> str:
    """Format the mean number of steps to the level of scratch, and how many seeds reach it if not all do."""
    reached = [steps for steps in speed.level_steps if steps is not None]
    if not reached:
        return "never" if speed.level_steps else MISSING
    mean, count = _steps(mean_of(reached)), len(speed.level_steps)
    return mean if len(reached) == count else f"{mean} ({len(reached)} of {count} seeds)"


def _steps(value: float | None) -> str:
    return MISSING if value is None else number(value, 0)
