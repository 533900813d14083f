"""The skeleton of the page and its elements, which escape their text."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files
from statistics import fmean, stdev
from typing import NamedTuple

from gvsl.report.figures.chart import RULES
from gvsl.report.numbers import MISSING, number, plural, plus_minus

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {scripts}"
"""The page may load nothing, and run no script but its own, which are listed by their hashes."""
SCRIPTS = (
    ("tables.js", "page.js"),
    ("viewer/volumes.js", "viewer/drawing.js", "viewer/solid.js", "viewer/controls.js"),
)
"""Files of each script element in order; the files of one element share their names, and no others."""
MANY = 2
"""The multiple of the blocks shown at once from which on all others fold into one."""


class Html(NamedTuple):
    """HTML code; `text` escapes plain text into it."""

    code: str


def text(value: object) -> Html:
    """Escape plain text."""
    return Html(escape(str(value)))


def join(pieces: Iterable[Html]) -> Html:
    """Concatenate pieces."""
    return Html("".join(piece.code for piece in pieces))


def element(tag: str, *children: Html | str, css: str = "", **attributes: str) -> Html:
    """Return an element; children and attributes that are plain strings are escaped."""
    given = ({"class": css} if css else {}) | {name.replace("_", "-"): value for name, value in attributes.items()}
    opening = "".join(f' {name}="{escape(value)}"' for name, value in given.items())
    inner = "".join(child.code if isinstance(child, Html) else escape(child) for child in children)
    return Html(f"<{tag}{opening}>{inner}</{tag}>")


def section(anchor: str, title: str, lead: str, *body: Html) -> Html:
    """Return a section with its heading and a lead of a sentence or two."""
    return element("section", element("h2", title), element("p", lead, css="lead"), *body, id=anchor)


def figure(svg: str, caption: str, title: str = "", legend: Html | None = None) -> Html:
    """Return a chart with title and legend above and caption below: always four parts, so that neighbours align."""
    head = element("h4", title) if title else element("span")
    return element("figure", head, legend or element("span"), Html(svg), element("figcaption", caption), css="chart")


def legend(entries: Iterable[tuple[Html, str]]) -> Html:
    """Return a legend of keys, each with its name."""
    return element("ul", *(element("li", key, name) for key, name in entries), css="legend")


def patch_key(fill: str) -> Html:
    """Return the legend key of an area in a CSS colour."""
    return element("i", css="patch", style=f"--fill:{fill}")


def outline_key(css: str) -> Html:
    """Return the legend key of an outline over slices, by its class in the style sheet."""
    line = f'<path class="outline {css}" d="M3 6H21"/>'
    return Html(f'<svg class="key on-image" viewBox="0 0 24 12" aria-hidden="true">{line}</svg>')


def table(header: Sequence[str], rows: Iterable[Sequence[Html | str]], caption: str) -> Html:
    """Return a table that scrolls sideways on a narrow screen; all columns but the first hold numbers."""

    def line(tag: str, row: Sequence[Html | str]) -> Html:
        return element("tr", *(element(tag, cell, css="figure" if place else "") for place, cell in enumerate(row)))

    head, body = element("thead", line("th", header)), element("tbody", *(line("td", row) for row in rows))
    return scrolling(element("table", element("caption", caption), head, body), caption)


def scrolling(inner: Html, name: str) -> Html:
    """Let an element scroll sideways if it is too wide, also by keyboard; `name` is for screen readers."""
    return element("div", inner, css="scroll", tabindex="0", role="region", aria_label=name)


def details(summary: Html | str, *body: Html) -> Html:
    """Return a part that opens at a click."""
    return element("details", element("summary", summary), *body)


def unfolded(blocks: Sequence[tuple[str, Html]], shown: int) -> list[Html]:
    """Return named blocks: the first ones as they are, each other one behind a click on its name.

    Of many, one is shown, and the names of the others are behind a click too.
    """
    many = len(blocks) > MANY * shown
    first = 1 if many else shown
    folded = [details(name, block) for name, block in blocks[first:]]
    return [block for _, block in blocks[:first]] + ([details(f"{len(folded)} more", *folded)] if many else folded)


def shown_first(blocks: Sequence[Html], shown: int, thing: str, css: str) -> list[Html]:
    """Return a div of the first blocks, and one of the others behind a click on "3 more THINGs"."""
    first, folded = (element("div", *part, css=css) for part in (blocks[:shown], blocks[shown:]))
    more = plural(len(blocks) - shown, f"more {thing}")
    return [first, details(more, folded)] if len(blocks) > shown else [first]


def value_cell(value: str, *beside: Html | str) -> Html:
    """Return a value in bold with small text beside it."""
    return Html(f"{element('b', value).code} {element('small', *beside).code}")


def mean_and_spread(values: Iterable[float | None]) -> Html | str:
    """Return the mean of values ± their standard deviation (n - 1), without those that are None."""
    there = [value for value in values if value is not None]
    if not there:
        return MISSING
    mean = number(fmean(there))
    return element("b", mean) if len(there) < 2 else value_cell(mean, plus_minus(stdev(there)))


def chip(word: str, css: str) -> Html:
    """Return a small mark with a word in it."""
    return element("span", word, css=f"chip {css}")


def page(title: str, contents: Sequence[tuple[str, str]], *body: Html) -> str:
    """Return the whole file: head, style, contents (anchor, name) and body."""
    own = files("gvsl.report")
    style = own.joinpath("style.css").read_text(encoding="utf-8")
    scripts = [_script(own.joinpath("scripts", name).read_text(encoding="utf-8") for name in part) for part in SCRIPTS]
    hashes = " ".join(f"'sha256-{b64encode(sha256(code.encode()).digest()).decode()}'" for code in scripts)
    links = [element("a", name, href=f"#{anchor}") for anchor, name in contents]
    head = (
        '<meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY.format(scripts=hashes)}">'
        '<meta name="color-scheme" content="light dark">'
        f"{element('title', title).code}<style>{style}{RULES}</style>"
    )
    nav = element("nav", *links, aria_label="Contents")
    ending = "".join(f"<script>{code}</script>" for code in scripts)
    whole = f"<head>{head}</head><body>{nav.code}<main>{join(body).code}</main>{ending}</body>"
    return f'<!DOCTYPE html>\n<html lang="en">{whole}</html>\n'


def _script(parts: Iterable[str]) -> str:
    """Join the files of a script in a scope of their own."""
    return '"use strict";\n(() => {\n' + "".join(parts) + "})();\n"
