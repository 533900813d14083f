"""Few labels: test scores by the number of labelled training cases."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from gvsl.report.figures.chart import SERIES
from gvsl.report.figures.score_lines import ScoreLine, draw_scores_by_labels
from gvsl.report.grouping import CARRIED, STUDENT, TRANSDUCTIVE, repeats_note
from gvsl.report.label_charts import LabelChart, Point, label_charts
from gvsl.report.numbers import MISSING, number, plural
from gvsl.report.page import Html, section, table, value_cell
from gvsl.report.panels import Block, Entry, Panel, block_html
from gvsl.report.runs import Run
from gvsl.report.sections.carried_tables import carried_tables
from gvsl.report.sections.names import arm_colours, seed_links

LEAD = (
    "Test score by the number of labelled training cases: a line for each arm, through the means over the draws of the "
    "labelled cases (seeds), and the range over them around it. Frozen features have solid lines, networks that are "
    "trained whole dashed ones, those that are trained on carried labels too dash-dotted ones, and carried labels "
    "themselves dotted ones. A colour is a method, or where that tells no lines apart, a line."
)
DASHES = {
    "linear": "solid",
    "finetune": "dashed",
    STUDENT: "dash-dot",
    TRANSDUCTIVE: "dash-dot",
    CARRIED: "dotted",
}


def score_by_labels(runs: Sequence[Run]) -> Html | None:
    """Return the section, or None if no method has runs with several numbers of labels, or of carried ones."""
    parts = [block_html(_block(chart), _table(chart), *carried_tables(chart)) for chart in label_charts(runs)]
    return section("labels", "Scores over the number of labels", LEAD, *parts) if parts else None


def _block(chart: LabelChart) -> Block:
    entries = [
        Entry(curve.name, colour, DASHES.get(curve.protocol, "dotted"))
        for curve, colour in zip(chart.curves, _colours(chart), strict=True)
    ]
    lines = []
    for index, (curve, entry) in enumerate(zip(chart.curves, entries, strict=True)):
        values = [(point.labels, point.mean, point.low, point.high) for point in curve.points]
        lines.append(ScoreLine(index, entry.colour, entry.dash, *np.array(values, np.float64).T))
    alt = f"Test {chart.score} over the number of labels on {chart.store}: {', '.join(entry.name for entry in entries)}"
    draw = partial(draw_scores_by_labels, lines=lines, score=chart.score)
    points = [(curve.name, point) for curve in chart.curves for point in curve.points]
    note = repeats_note({f"{name}, {plural(point.labels, 'label')}": point.runs for name, point in points})
    return Block(chart.store, note, entries, [Panel(chart.score, draw, alt, "The axis doubles in equal steps.")])


def _colours(chart: LabelChart) -> list[str]:
    """Return a colour for each curve: its arm's, or another if a curve before it has that colour and line style."""
    arms = arm_colours(curve.arm for curve in chart.curves)
    taken: set[tuple[str, str]] = set()
    colours = []
    for curve in chart.curves:
        dash = DASHES.get(curve.protocol, "dotted")
        free = (colour for colour in (arms[curve.arm], *SERIES) if (colour, dash) not in taken)
        colours.append(next(free, arms[curve.arm]))
        taken.add((colours[-1], dash))
    return colours


def _table(chart: LabelChart) -> Html:
    counts = sorted({point.labels for curve in chart.curves for point in curve.points})
    rows: list[list[Html | str]] = []
    for curve in chart.curves:
        points = {point.labels: point for point in curve.points}
        rows.append([curve.name, *(_cell(points[count]) if count in points else MISSING for count in counts)])
    header = ["", *(plural(count, "label") for count in counts)]
    return table(header, rows, f"Test {chart.score}: mean over seeds, its range, and the seeds.")


def _cell(point: Point) -> Html:
    """Return the mean, its range, and the seeds as links to their runs."""
    ends = "" if len(point.runs) == 1 else f"{number(point.low)} to {number(point.high)}, "
    return value_cell(number(point.mean), f"{ends}seed{'s' if ends else ''} ", seed_links(point.runs))
