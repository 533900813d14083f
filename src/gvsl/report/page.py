"""The page's skeleton and its pieces, each of which escapes the text it is given."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import NamedTuple

from gvsl.report.figures.chart import DASHES, RULES, css_colour

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {scripts}"
"""The page may load nothing from anywhere, and run no script but its own, told by their hashes."""
SCRIPTS = (
    ("tables.js", "page.js"),
    ("viewer/volumes.js", "viewer/drawing.js", "viewer/controls.js"),
)
"""Files of each script element in order; the files of one element share their names, and no others."""
MANY = 2
"""So many times the blocks that are shown at once, and the rest folds into one."""


class Html(NamedTuple):
    """A piece of the page; text becomes one by `text`, so that nothing unescaped slips in."""

    code: str


def text(value: object) -> Html:
    """Escape text for the page."""
    return Html(escape(str(value)))


def join(pieces: Iterable[Html]) -> Html:
    """Lay pieces one after the other."""
    return Html("".join(piece.code for piece in pieces))


def element(tag: str, *children: Html | str, css: str = "", **attributes: str) -> Html:
    """An element; a child or an attribute that is a plain string is escaped."""
    given = ({"class": css} if css else {}) | {name.replace("_", "-"): value for name, value in attributes.items()}
    opening = "".join(f' {name}="{escape(value)}"' for name, value in given.items())
    inner = "".join(child.code if isinstance(child, Html) else escape(child) for child in children)
    return Html(f"<{tag}{opening}>{inner}</{tag}>")


def section(anchor: str, title: str, lead: str, *body: Html) -> Html:
    """A section with its heading and a sentence or two on what to see in it."""
    return element("section", element("h2", title), element("p", lead, css="lead"), *body, id=anchor)


def figure(drawing: Html, caption: str, title: str = "", legend: Html | None = None, css: str = "") -> Html:
    """A drawing, its title and legend above, its caption below: always four parts, so neighbours align."""
    head = element("h4", title) if title else element("span")
    return element("figure", head, legend or element("span"), drawing, element("figcaption", caption), css=css)


def line_legend(entries: Sequence[tuple[str, str, str]]) -> Html:
    """A legend of lines: name, a colour of the charts' and a dash."""
    keys = []
    for name, colour, dash in entries:
        swatch = (
            f'<svg class="key" viewBox="0 0 24 8" aria-hidden="true"><path d="M1 4H23" '
            f'style="stroke:{css_colour(colour)};stroke-dasharray:{DASHES[dash][1] or "none"}"/></svg>'
        )
        keys.append(element("li", Html(swatch), name))
    return element("ul", *keys, css="legend")


def patch_legend(entries: Sequence[tuple[str, str]]) -> Html:
    """A legend of filled patches: name and a CSS colour."""
    keys = [element("li", element("i", css="patch", style=f"--fill:{fill}"), name) for name, fill in entries]
    return element("ul", *keys, css="legend")


def outline_legend(entries: Sequence[tuple[str, str]]) -> Html:
    """A legend of outlines over slices: name and the outline's class in the style sheet."""
    keys = []
    for name, css in entries:
        line = f'<path class="outline {css}" d="M3 6H21"/>'
        swatch = f'<svg class="key on-image" viewBox="0 0 24 12" aria-hidden="true">{line}</svg>'
        keys.append(element("li", Html(swatch), name))
    return element("ul", *keys, css="legend")


def table(header: Sequence[str], rows: Iterable[Sequence[Html | str]], numeric_from: int, caption: str = "") -> Html:
    """A table that scrolls sideways on a narrow screen; columns from `numeric_from` on hold figures."""

    def cells(tag: str, row: Sequence[Html | str]) -> Html:
        return join(element(tag, cell, css="figure" if place >= numeric_from else "") for place, cell in enumerate(row))

    body = join(element("tr", cells("td", row)) for row in rows)
    head = element("thead", element("tr", cells("th", header)))
    named = [element("caption", caption)] if caption else []
    return scrolling(element("table", *named, head, element("tbody", body)), caption or f"Table by {header[0]}")


def scrolling(inner: Html, name: str) -> Html:
    """What scrolls sideways where it is too wide, also by the keyboard; `name` says to a screen reader what it is."""
    return element("div", inner, css="scroll", tabindex="0", role="region", aria_label=name)


def details(summary: Html | str, *body: Html, open_at_first: bool = False) -> Html:
    """A part that opens at a click."""
    inner = element("summary", summary).code + join(body).code
    return Html(f"<details{' open' if open_at_first else ''}>{inner}</details>")


def unfolded(blocks: Sequence[tuple[str, Html]], shown: int) -> list[Html]:
    """Blocks, each with its name: the first ones as they are, each further one opens at a click on its name.

    Of many, one is shown, and the names of the others open at a click too.
    """
    many = len(blocks) > MANY * shown
    first = 1 if many else shown
    folded = [details(name, block) for name, block in blocks[first:]]
    return [block for _, block in blocks[:first]] + ([details(f"{len(folded)} more", *folded)] if many else folded)


def chip(word: str, css: str) -> Html:
    """A small mark with a word in it."""
    return element("span", word, css=f"chip {css}")


def page(title: str, contents: Sequence[tuple[str, str]], *body: Html) -> str:
    """The whole file: head, style, contents (anchor, name) and body."""
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
