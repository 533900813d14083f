"""Panels with a legend whose entries pick out what belongs to them, by the style sheet alone: no script.

The same blocks become a part of the page or an SVG file of their own.
"""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from math import ceil

from gvsl.report.figures.chart import DASHES, HEIGHT, WIDTH, css_colour

MOST_SERIES = 64
"""Legend entries that can pick out their parts; further ones name, and no more."""
MARKERS = {
    "o": "M12 2.6a3.4 3.4 0 1 0 .01 0z",
    "^": "M12 2L16 9H8z",
    "s": "M9 3H15V9H9z",
    "D": "M12 1.6L16.4 6L12 10.4L7.6 6z",
    "v": "M12 10L16 3H8z",
    "P": "M10.5 2H13.5V4.5H16V7.5H13.5V10H10.5V7.5H8V4.5H10.5z",
}
"""Each marker as matplotlib names it, and its outline in a legend's 24 by 12."""
RULES = (
    ".series{transition:opacity .12s}.keys [tabindex]{cursor:default;outline-offset:2px}"
    ".linked>.keys{margin:10px 0 14px}.keys{align-content:start}.keys .key{height:12px}"
) + "".join(
    f".linked:has(.k{place}:hover,.k{place}:focus,.s{place}:hover) .series:not(.s{place}){{opacity:.1}}"
    for place in range(MOST_SERIES)
)
"""Style rules: where a legend's entry, or a part itself, has the pointer or the focus, all other parts turn faint."""

COLUMNS, GAP, LINE, LETTERS = 3, 24, 18, 52
"""Of an SVG file: panels in a row, pixels between them, a line of text's height, and the letters in it."""


@dataclass(frozen=True)
class Entry:
    """One entry of a legend: a line's, or a marker's where it has one."""

    name: str
    colour: str
    dash: str = "solid"
    marker: str = ""


@dataclass(frozen=True)
class Panel:
    """One chart with what stands above and below it."""

    title: str
    svg: str
    caption: str
    keys: Sequence[int] = ()
    """The numbers of the block's entries that are in it, where it has a legend of its own."""


@dataclass(frozen=True)
class Block:
    """Panels that share a legend."""

    title: str
    note: str
    entries: Sequence[Entry]
    panels: Sequence[Panel]


def gid(place: int) -> str:
    """What a drawn part is called so that the legend's entry of this number finds it."""
    return f"series-{place}"


def with_names(svg: str, entries: Sequence[Entry]) -> str:
    """Give each series of a chart its name, which a pointer that rests on it shows."""

    def named(match: re.Match[str]) -> str:
        return f"{match[0]}<title>{escape(entries[int(match[1])].name)}</title>"

    return re.sub(r'<g class="series s(\d+)">', named, svg)


def swatch(entry: Entry, place: str = "") -> str:
    """The legend's picture of an entry, 24 by 12; `place` are further attributes of it."""
    colour = css_colour(entry.colour)
    if entry.marker:
        inner = f'<path d="{MARKERS[entry.marker]}" style="fill:{colour};stroke:none"/>'
    else:
        dash = DASHES[entry.dash][1] or "none"
        inner = f'<path d="M1 6H23" style="fill:none;stroke-width:2.4;stroke:{colour};stroke-dasharray:{dash}"/>'
    return f'<svg {place} viewBox="0 0 24 12" aria-hidden="true">{inner}</svg>'


def document(title: str, blocks: Sequence[Block]) -> str:
    """The blocks as an SVG file of its own, light or dark as the reader's system is."""
    width = COLUMNS * WIDTH + (COLUMNS + 1) * GAP
    parts, top = [_words(title, GAP, 2 * GAP, "title")], 2.0 * GAP + LINE
    for block in blocks:
        drawn, height = _block(block, width)
        parts.append(f'<g class="linked" transform="translate(0 {top:g})">{drawn}</g>')
        top += height + GAP
    sheet = files("gvsl.report").joinpath("style.css").read_text(encoding="utf-8")
    variables = sheet[: sheet.index("* { box-sizing")]
    style = (
        f"{variables}svg{{font:13px system-ui,sans-serif;background:var(--card)}}text{{fill:var(--ink)}}"
        ".quiet{fill:var(--muted)}.title{font-size:22px;font-weight:650}.head{font-size:16px;font-weight:600}"
        f"svg svg text{{font-family:system-ui,sans-serif!important}}{RULES}"
    )
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    size = f'width="{width:g}" height="{top:g}" viewBox="0 0 {width:g} {top:g}"'
    # The style's text is ours, and as it stands in the page; only & and < would not be text in an SVG file.
    inner = f"<style>{escape(style, quote=False).replace('&gt;', '>')}</style>{''.join(parts)}"
    return f'<svg {names} {size} role="img" aria-label="{escape(title)}">{inner}</svg>\n'


def _block(block: Block, width: float) -> tuple[str, float]:
    """A block's elements and its height."""
    parts, top = [_words(block.title, GAP, LINE, "head")], 2.0 * LINE
    for line in textwrap.wrap(block.note, 3 * LETTERS):
        parts.append(_words(line, GAP, top, "quiet"))
        top += LINE
    if not any(panel.keys for panel in block.panels):
        drawn, height = _keys(block.entries, range(len(block.entries)), GAP, top, width - 2 * GAP)
        parts.append(drawn)
        top += height
    for row in range(ceil(len(block.panels) / COLUMNS)):
        tallest = 0.0
        for column, panel in enumerate(block.panels[row * COLUMNS : (row + 1) * COLUMNS]):
            drawn, height = _panel(block, panel, GAP + column * (WIDTH + GAP), top)
            parts.append(drawn)
            tallest = max(tallest, height)
        top += tallest + LINE
    return "".join(parts), top


def _panel(block: Block, panel: Panel, left: float, top: float) -> tuple[str, float]:
    """A panel's elements and its height."""
    parts, at = [_words(panel.title, left, top + LINE, "")], top + 1.5 * LINE
    if panel.keys:
        drawn, height = _keys(block.entries, panel.keys, left, at, WIDTH)
        parts.append(drawn)
        at += height
    parts.append(panel.svg.replace("<svg ", f'<svg x="{left:g}" y="{at:g}" width="{WIDTH:g}" height="{HEIGHT:g}" ', 1))
    at += HEIGHT + LINE
    for line in textwrap.wrap(panel.caption, LETTERS):
        parts.append(_words(line, left, at, "quiet"))
        at += LINE
    return "".join(parts), at - top


def _keys(entries: Sequence[Entry], places: Sequence[int], left: float, top: float, width: float) -> tuple[str, float]:
    """A legend's elements and its height, filled line by line."""
    parts, across, down = [], 0.0, 0.0
    for place in places:
        name = entries[place].name
        needed = 48 + 7.2 * len(name)
        if across and across + needed > width:
            across, down = 0.0, down + LINE
        picture = swatch(entries[place], f'x="{left + across:g}" y="{top + down:g}" width="24" height="12"')
        words = _words(name, left + across + 30, top + down + 11, "quiet")
        parts.append(f'<g class="k{place}" tabindex="0">{picture}{words}</g>')
        across += needed
    return f'<g class="keys">{"".join(parts)}</g>', down + 1.5 * LINE


def _words(words: str, left: float, top: float, css: str) -> str:
    return f'<text x="{left:g}" y="{top:g}" class="{css}">{escape(words)}</text>'
