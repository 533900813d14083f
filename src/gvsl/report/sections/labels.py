"""Few labels: test scores against the number of labelled cases."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from gvsl.report.figures.panels import Block, Entry, Panel, block_html
from gvsl.report.figures.score_lines import ScoreLine, draw_scores_by_labels
from gvsl.report.labels import LabelStudy, Point, label_studies
from gvsl.report.numbers import MISSING, number, plural
from gvsl.report.page import Html, element, section, table
from gvsl.report.pretraining import RANDOM
from gvsl.report.runs import Run
from gvsl.report.sections.names import seed_links, side_colours
from gvsl.report.table1.table import SCRATCH

LEAD = (
    "Test score against the number of labelled cases that were learnt from: a line for each method and mode, through "
    "the means over seeds, and the range over seeds about it. A colour is a method; frozen features have solid "
    "lines, networks that are trained whole dashed ones."
)
DASHES = {"linear": "solid", "finetune": "dashed"}


def labels(runs: Sequence[Run]) -> Html | None:
    """The section, or None where no method has runs with several numbers of labels."""
    found = label_studies(runs)
    parts = [block_html(_block(study), _table(study)) for study in found]
    return section("labels", "Scores over the number of labels", LEAD, *parts) if parts else None


def _block(study: LabelStudy) -> Block:
    colours = side_colours([_side(curve.method) for curve in study.curves])
    entries = [
        Entry(curve.name, colours[_side(curve.method)], DASHES.get(curve.mode, "dotted")) for curve in study.curves
    ]
    lines = [
        ScoreLine(
            place,
            entries[place].colour,
            entries[place].dash,
            np.array([point.labels for point in curve.points], np.float64),
            np.array([point.mean for point in curve.points]),
            np.array([min(point.scores) for point in curve.points]),
            np.array([max(point.scores) for point in curve.points]),
        )
        for place, curve in enumerate(study.curves)
    ]
    alt = f"Test {study.score} over the number of labels on {study.store}: {', '.join(entry.name for entry in entries)}"
    draw = partial(draw_scores_by_labels, lines=lines, score=study.score)
    repeats = [curve.name for curve in study.curves if any(_repeats(point) for point in curve.points)]
    note = f"Several runs of one seed, of weights that differ: {', '.join(repeats)}." if repeats else ""
    return Block(study.store, note, entries, [Panel(study.score, draw, alt, "The axis doubles in equal steps.")])


def _side(method: str) -> str:
    return RANDOM if method == SCRATCH else method


def _repeats(point: Point) -> bool:
    return len({run.record.seed for run in point.runs}) < len(point.runs)


def _table(study: LabelStudy) -> Html:
    counts = sorted({point.labels for curve in study.curves for point in curve.points})
    rows: list[list[Html | str]] = []
    for curve in study.curves:
        points = {point.labels: point for point in curve.points}
        rows.append([curve.name, *(_cell(points[count]) if count in points else MISSING for count in counts)])
    header = ["", *(plural(count, "label") for count in counts)]
    return table(header, rows, 1, f"Test {study.score}: mean over seeds, its range, and the seeds.")


def _cell(point: Point) -> Html:
    """Mean, range and the seeds, each leading to its run."""
    ends = f"{number(min(point.scores))} to {number(max(point.scores))}, " if len(point.runs) > 1 else ""
    said = "seeds" if len(point.runs) > 1 else "seed"
    return Html(
        element("b", number(point.mean)).code + " " + element("small", f"{ends}{said} ", seed_links(point.runs)).code
    )
