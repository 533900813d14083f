"""Turn a matplotlib figure into inline SVG that takes its colours from the page, light or dark."""

import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

WIDTH, HEIGHT = 340.0, 220.0
"""A chart's size in CSS pixels where it is shown full size: three abreast on a wide page, one on a phone."""

# A drawn colour stands for a variable of the page's style sheet and is replaced by it in the SVG's text.
_VARIABLES = {
    "#fe0001": "--ink",
    "#fe0002": "--muted",
    "#fe0003": "--rule",
    "#fe0004": "--card",
    "#fe0011": "--c1",
    "#fe0012": "--c2",
    "#fe0013": "--c3",
    "#fe0014": "--c4",
    "#fe0015": "--c5",
    "#fe0016": "--c6",
}
INK, MUTED, RULE, CARD = list(_VARIABLES)[:4]
SERIES = tuple(list(_VARIABLES)[4:])
"""The colours of data, in the order to use them; the page gives each a shade of Okabe and Ito's palette."""

DASHES: dict[str, tuple[object, str]] = {
    "solid": ("solid", ""),
    "dashed": ((0, (5, 2.5)), "7 3.5"),
    "dotted": ((0, (1, 1.8)), "1.5 3"),
}
"""Each way to dash a line: as matplotlib has it, and as SVG has it for a legend."""

SERIES_ID = re.compile(r"series-(\d+)")
"""What a drawn part's `gid` is if a legend's entry of that number is to find it (`gvsl.report.figures.linked`)."""

NICE_STEPS = [1, 2, 2.5, 5, 10]
"""The multiples that ticks may lie on."""

_STYLE: dict[Any, Any] = {
    "figure.constrained_layout.w_pad": 0.02,
    "figure.constrained_layout.h_pad": 0.04,
    "svg.fonttype": "none",  # text stays text: selectable, and in the page's own font
    "svg.hashsalt": "gvsl",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "font.size": 12,
    "axes.unicode_minus": True,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3,
    "ytick.minor.size": 0,
    "ytick.major.size": 0,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "lines.solid_capstyle": "round",
    "path.simplify": True,
}


def css_colour(colour: str) -> str:
    """The style sheet's name for a drawn colour, such as var(--c1)."""
    return f"var({_VARIABLES[colour]})"


@contextmanager
def chart(alt: str, width: float = WIDTH, height: float = HEIGHT) -> Iterator[tuple[Axes, list[str]]]:
    """Give axes to draw on, and a list that holds the inline SVG once the block has ended.

    `alt` is what a screen reader says of the chart. The style is set for the block alone.
    """
    drawn: list[str] = []
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        yield axes, drawn
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)
    drawn.append(_inline(buffer.getvalue(), alt))


def _inline(text: str, alt: str) -> str:
    """Make of a whole SVG document an element of the page."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)  # it would hold for the whole page
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    used = set(re.findall(r'url\(#([^)"]+)\)|href="#([^"]+)"', text))
    names = {first or second for first, second in used}
    prefix = hashlib.sha256(text.encode()).hexdigest()[:10]

    def rename(match: re.Match[str]) -> str:
        series = SERIES_ID.fullmatch(match[1])
        if series:  # several parts of a chart may be of one series: a class, not an id
            return f' class="series s{series[1]}"'
        return f' id="{prefix}{match[1]}"' if match[1] in names else ""

    text = re.sub(r' id="([^"]*)"', rename, text)
    text = re.sub(r"url\(#", f"url(#{prefix}", text)
    text = re.sub(r'xlink:href="#', f'href="#{prefix}', text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    head, _, body = text.partition(">")
    box = re.search(r'viewBox="[^"]*"', head)
    opening = f'<svg {box[0] if box else ""} role="img" aria-label="{escape(alt)}">'
    return re.sub(r"\s*\n\s*", "\n", opening + body)
