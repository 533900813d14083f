"""Render drawings on matplotlib axes as inline SVG that takes its colours from the page, light or dark."""

import hashlib
import io
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

Drawing = Callable[[Axes], None]
"""A function that draws a chart on axes, for the page (SVG) and for a file (PDF) alike."""

WIDTH, HEIGHT = 340.0, 220.0
"""Default size of a chart in CSS pixels: three fit side by side on a wide page, one on a phone."""

_VARIABLES = {
    "#1d2329": "--ink",
    "#5c6670": "--muted",
    "#e2e4e4": "--rule",
    "#ffffff": "--card",
    "#0072b2": "--c1",
    "#d55e00": "--c2",
    "#009e73": "--c3",
    "#cc79a7": "--c4",
    "#e69f00": "--c5",
    "#56b4e9": "--c6",
}
# The light colours of style.css. In SVG the variable replaces the colour, so that the page can darken it.
INK, MUTED, RULE, CARD = list(_VARIABLES)[:4]
SERIES = tuple(list(_VARIABLES)[4:])
"""Colours of data series in order of use, from Okabe and Ito's colour-blind-safe palette."""

DASHES: dict[str, tuple[Any, str]] = {
    "solid": ("solid", ""),
    "dashed": ((0, (5, 2.5)), "7 3.5"),
    "dotted": ((0, (1, 1.8)), "1.5 3"),
    "dash-dot": ((0, (6, 1.8, 1, 1.8)), "8 2.5 1.5 2.5"),
}
"""Line styles: as matplotlib writes them, and as an SVG legend does."""

MARKERS = {
    "o": "M12 2.6a3.4 3.4 0 1 0 .01 0z",
    "^": "M12 2L16 9H8z",
    "s": "M9 3H15V9H9z",
    "D": "M12 1.6L16.4 6L12 10.4L7.6 6z",
    "v": "M12 10L16 3H8z",
    "P": "M10.5 2H13.5V4.5H16V7.5H13.5V10H10.5V7.5H8V4.5H10.5z",
}
"""Markers by their matplotlib name, each with its outline in a legend key of 24 by 12."""

MAX_LINKED = 64
"""Maximum number of legend entries that can highlight their series."""
RULES = (
    ".series{transition:opacity .12s}.keys [tabindex]{cursor:default;outline-offset:2px}"
    ".linked>.keys{margin:10px 0 14px}.keys{align-content:start}"
) + "".join(
    f".linked:has(.k{place}:hover,.k{place}:focus,.s{place}:hover) .series:not(.s{place}){{opacity:.1}}"
    for place in range(MAX_LINKED)
)
"""Style rules that fade all other series while a legend entry or a series has the pointer or the focus."""

NICE_STEPS = [1, 2, 2.5, 5, 10]
"""Multiples on which axis ticks may lie."""

STYLE: dict[Any, Any] = {
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
    "lines.solid_capstyle": "round",
    "path.simplify": True,
}
"""The matplotlib settings of every chart."""


def css_colour(colour: str) -> str:
    """Return the style sheet's variable for a colour, such as var(--c1)."""
    return f"var({_VARIABLES[colour]})"


def gid(place: int) -> str:
    """Return the artist id that links a drawn part to the legend entry of this number."""
    return f"series-{place}"


def chart_svg(draw: Drawing, alt: str, names: Sequence[str] = (), width: float = WIDTH, height: float = HEIGHT) -> str:
    """Render a drawing as inline SVG.

    Args:
        draw: draws on the axes it is given.
        alt: description for screen readers.
        names: names of the legend entries, shown while the pointer rests on a series.
        width: in CSS pixels.
        height: in CSS pixels.
    """
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        draw(axes)
        FigureCanvasSVG(figure).print_svg(buffer, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _inline(buffer.getvalue(), alt, names)


def _inline(text: str, alt: str, names: Sequence[str]) -> str:
    """Turn an SVG document into an element of the page."""
    text = text[text.index("<svg") :]
    # A style element would apply to the whole page.
    text = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    referenced = {first or second for first, second in re.findall(r'url\(#([^)"]+)\)|href="#([^"]+)"', text)}
    prefix = hashlib.sha256(text.encode()).hexdigest()[:10]

    def link(match: re.Match[str]) -> str:
        place = int(match[1])
        title = f"<title>{escape(names[place])}</title>" if place < len(names) else ""
        return f'<g class="series s{place}">{title}'  # a class, since several parts of a chart may be of one series

    text = re.sub(r'<g id="series-(\d+)">', link, text)
    text = re.sub(r' id="([^"]*)"', lambda match: f' id="{prefix}{match[1]}"' if match[1] in referenced else "", text)
    text = text.replace("url(#", f"url(#{prefix}").replace('xlink:href="#', f'href="#{prefix}')
    text = re.sub(r"(?<=: )#[0-9a-f]{6}(?=[;\"])", lambda match: css_colour(match[0]), text)
    head, _, body = text.partition(">")
    box = re.search(r'viewBox="[^"]*"', head)
    opening = f'<svg {box[0] if box else ""} role="img" aria-label="{escape(alt)}">'
    return re.sub(r"\s*\n\s*", "\n", opening + body)
