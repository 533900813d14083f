"""Blocks of panels as a part of the page."""

from collections.abc import Sequence

from gvsl.report.figures.linked import Block, Entry, swatch
from gvsl.report.page import Html, element, figure


def block(shown: Block, *tables: Html) -> Html:
    """A block's heading, legend and panels, and its tables below."""
    own = any(panel.keys for panel in shown.panels)
    panels = [
        figure(
            Html(panel.svg),
            panel.caption,
            panel.title,
            _legend(shown.entries, panel.keys) if own else None,
            "chart",
        )
        for panel in shown.panels
    ]
    note = [element("p", shown.note, css="quiet")] if shown.note else []
    shared = [] if own else [_legend(shown.entries, range(len(shown.entries)))]
    return element(
        "div",
        element("h3", shown.title),
        *note,
        element("div", *shared, element("div", *panels, css="charts"), css="linked"),
        *tables,
    )


def _legend(entries: Sequence[Entry], places: Sequence[int]) -> Html:
    items = [
        element("li", Html(swatch(entries[place], 'class="key"')), entries[place].name, css=f"k{place}", tabindex="0")
        for place in places
    ]
    return element("ul", *items, css="legend keys")
