"""Few labels: test scores by the number of labelled cases."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from gvsl.report.figures.score_lines import ScoreLine, draw_scores_by_labels
from gvsl.report.grouping import repeats_note
from gvsl.report.numbers import MISSING, number, plural
from gvsl.report.page import Html, section, table, value_cell
from gvsl.report.panels import Block, Entry, Panel, block_html
from gvsl.report.runs import Run
from gvsl.report.score_by_labels import LabelChart, Point, label_charts
from gvsl.report.sections.names import arm_colours, seed_links

LEAD = (
    "Test score by the number of labelled training cases: a line for each method and mode, through the means over "
    "seeds, and the range over seeds around it. A colour is a method; frozen features have solid lines, networks that "
    "are trained whole dashed ones."
)
DASHES = {"linear": "solid", "finetune": "dashed"}


def score_by_labels(runs: Sequence[Run]) -> Html | None:
    """Return the section, or None if no method has runs with several numbers of labels."""
    parts = [block_html(_block(chart), _table(chart)) for chart in label_charts(runs)]
    return section("labels", "Scores over the number of labels", LEAD, *parts) if parts else None


def _block(chart: LabelChart) -> Block:
    colours = arm_colours(curve.arm for curve in chart.curves)
    entries = [Entry(curve.name, colours[curve.arm], DASHES.get(curve.mode, "dotted")) for curve in chart.curves]
    lines = [
        ScoreLine(
            index,
            entries[index].colour,
            entries[index].dash,
            np.array([point.labels for point in curve.points], np.float64),
            np.array([point.mean for point in curve.points]),
            np.array([min(point.scores) for point in curve.points]),
            np.array([max(point.scores) for point in curve.points]),
        )
        for index, curve in enumerate(chart.curves)
    ]
    alt = f"Test {chart.score} over the number of labels on {chart.store}: {', '.join(entry.name for entry in entries)}"
    draw = partial(draw_scores_by_labels, lines=lines, score=chart.score)
    points = [(curve.name, point) for curve in chart.curves for point in curve.points]
    note = repeats_note({f"{name}, {plural(point.labels, 'label')}": point.runs for name, point in points})
    return Block(chart.store, note, entries, [Panel(chart.score, draw, alt, "The axis doubles in equal steps.")])


def _table(chart: LabelChart) -> Html:
    counts = sorted({point.labels for curve in chart.curves for point in curve.points})
    rows: list[list[Html | str]] = []
    for curve in chart.curves:
        points = {point.labels: point for point in curve.points}
        rows.append([curve.name, *(_cell(points[count]) if count in points else MISSING for count in counts)])
    header = ["", *(plural(count, "label") for count in counts)]
    return table(header, rows, 1, f"Test {chart.score}: mean over seeds, its range, and the seeds.")


def _cell(point: Point) -> Html:
    """Return the mean, its range, and the seeds as links to their runs."""
    if len(point.runs) == 1:
        return value_cell(number(point.mean), "seed ", seed_links(point.runs))
    ends = f"{number(min(point.scores))} to {number(max(point.scores))}"
    return value_cell(number(point.mean), f"{ends}, seeds ", seed_links(point.runs))
