"""Links, headings and colours that several sections use."""

import hashlib
from collections.abc import Iterable, Sequence

from gvsl.report.figures.chart import SERIES
from gvsl.report.grouping import RANDOM
from gvsl.report.page import Html, chip, element, text
from gvsl.report.runs import Run

STRUCTURE_COLOURS = (
    *("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2"),
    *("#0000FF", "#2D1EA5", "#E1F096", "#3C3C00", "#5A78FF", "#780069", "#E10F4B"),
    *("#871E4B", "#C3D2A5", "#D2A55A", "#3C4BF0", "#4B96F0", "#B4D2F0", "#004BA5"),
    *("#4B693C", "#0000C3", "#785A78", "#E196A5", "#E1E169", "#FF4B78", "#964B0F"),
)
"""Colours of structures over images: Okabe and Ito's palette, then each time the colour farthest from those before.

Any two are at least 15 apart in CIELAB, also as seen with protanopia or deuteranopia."""


def run_anchor(run: Run) -> str:
    """Return the anchor of a run's row in the page."""
    return f"run-{hashlib.sha256(str(run.folder).encode('utf-8', 'surrogateescape')).hexdigest()[:10]}"


def run_link(run: Run, text: str) -> Html:
    """Return text that links to a run's row: its settings, seed, versions, hardware and store."""
    return element("a", text, href=f"#{run_anchor(run)}")


def seed_links(runs: Iterable[Run]) -> Html:
    """Return the seeds of runs, each linked to its run."""
    return Html(", ".join(run_link(run, str(run.record.seed)).code for run in runs))


def run_heading(run: Run) -> Html:
    """Return the heading of a run's block, with a mark if it has not finished."""
    status = [] if run.record.status == "finished" else [text(" "), chip(run.record.status, run.record.status)]
    return element("h3", f"{run.store}: ", run_link(run, run.label), *status)


def arm_colours(names: Iterable[str]) -> dict[str, str]:
    """Return a chart colour for each arm: random features always have the second, methods the others."""
    arms = set(names)
    methods = sorted(arms - {RANDOM})
    free = [colour for colour in SERIES if colour != SERIES[1]]
    colours = {RANDOM: SERIES[1]} if RANDOM in arms else {}
    return colours | {name: free[place % len(free)] for place, name in enumerate(methods)}


def structure_names(runs: Sequence[Run]) -> dict[int, str]:
    """Return the structures' names by label value, from the runs' records."""
    found = {int(value): name for run in runs for value, name in run.record.labels.items()}
    return dict(sorted(found.items()))


def structure_colours(values: Iterable[int]) -> dict[int, str]:
    """Return a colour for each label value, the same wherever the same values are shown."""
    return {value: STRUCTURE_COLOURS[place % len(STRUCTURE_COLOURS)] for place, value in enumerate(sorted(values))}
