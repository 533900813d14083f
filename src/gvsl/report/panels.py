"""Panels with a common legend, as a part of the page: an entry of the legend highlights its series without a script."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gvsl.report.figures.chart import DASHES, MARKERS, Drawing, chart_svg, css_colour
from gvsl.report.page import Html, element, figure


@dataclass(frozen=True)
class Entry:
    """A legend entry: a line, or a marker if it has one."""

    name: str
    colour: str
    dash: str = "solid"
    marker: str = ""


@dataclass(frozen=True)
class Panel:
    """One chart with its title and caption."""

    title: str
    draw: Drawing
    alt: str
    """Description for screen readers."""
    caption: str
    keys: Sequence[int] = ()
    """The legend entries that occur in the panel, if it shows a legend of its own on the page."""


@dataclass(frozen=True)
class Block:
    """Panels with common legend entries."""

    title: str
    note: str
    entries: Sequence[Entry]
    panels: Sequence[Panel]


def block_html(block: Block, *tables: Html) -> Html:
    """Lay out a block's heading, legend, panels and the tables below them."""
    names = [entry.name for entry in block.entries]
    panels = [
        figure(
            chart_svg(panel.draw, panel.alt, names),
            panel.caption,
            panel.title,
            _legend(block.entries, panel.keys) if panel.keys else None,
        )
        for panel in block.panels
    ]
    note = [element("p", block.note, css="quiet")] if block.note else []
    own = any(panel.keys for panel in block.panels)
    legend = [] if own else [_legend(block.entries, range(len(names)))]
    charts = element("div", *legend, element("div", *panels, css="charts"), css="linked")
    return element("div", element("h3", block.title), *note, charts, *tables)


def entry_key(entry: Entry) -> Html:
    """Draw the legend key of an entry."""
    colour = css_colour(entry.colour)
    if entry.marker:
        path, style = MARKERS[entry.marker], f"fill:{colour};stroke:none"
    else:
        path, style = "M1 6H23", f"stroke:{colour};stroke-dasharray:{DASHES[entry.dash][1] or 'none'}"
    return Html(f'<svg class="key" viewBox="0 0 24 12" aria-hidden="true"><path d="{path}" style="{style}"/></svg>')


def _legend(entries: Sequence[Entry], places: Iterable[int]) -> Html:
    """Return a legend whose entries highlight their series."""
    items = [
        element("li", entry_key(entries[place]), entries[place].name, css=f"k{place}", tabindex="0") for place in places
    ]
    return element("ul", *items, css="legend keys")
