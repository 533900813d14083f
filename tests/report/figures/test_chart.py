"""Charts as inline SVG: themed, of unique ids, with text as text."""

import re
from importlib.resources import files

import matplotlib as mpl
import pytest
from matplotlib.axes import Axes

from gvsl.report.figures.chart import CARD, INK, MUTED, RULE, SERIES, chart_svg, css_colour


def draw(height: float) -> str:
    """A chart with a clipped line and a name that looks like mathematics."""

    def drawing(axes: Axes) -> None:
        axes.plot([0, 1], [0, height], color=SERIES[0], marker="o")
        axes.set_title("cost $x^ & <more> fill: #0072b2")

    return chart_svg(drawing, "<what it shows>")


def test_colours_are_the_pages_and_text_is_text() -> None:
    svg = draw(1)
    assert "var(--c1)" in svg
    assert not re.findall(r"[:\"] ?#[0-9a-f]{3,6}[;\"]", svg)
    assert "cost $x^ &amp; &lt;more&gt; fill: #0072b2" in svg
    assert svg.startswith("<svg ")
    assert "&lt;what it shows&gt;" in svg
    assert "<style" not in svg
    assert "<metadata" not in svg
    assert "<?xml" not in svg


def test_ids_are_those_referred_to_and_differ_between_charts() -> None:
    first, second = (set(re.findall(r' id="([^"]+)"', draw(height))) for height in (1, 2))
    referred = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', draw(1)))
    assert first
    assert first == {a or b for a, b in referred}
    assert not first & second


def test_the_style_is_left_as_it_was() -> None:
    before = dict(mpl.rcParams)
    draw(1)
    assert dict(mpl.rcParams) == before


def test_the_colours_are_the_style_sheets_light_ones() -> None:
    sheet = files("gvsl.report").joinpath("style.css").read_text(encoding="utf-8")
    light = dict(re.findall(r"(--\w+): (#\w+)", sheet.partition("@media")[0]))
    for colour in (INK, MUTED, RULE, CARD, *SERIES):
        assert light[css_colour(colour)[4:-1]] == colour


def test_a_colour_that_is_not_the_pages_is_refused() -> None:
    def drawing(axes: Axes) -> None:
        axes.axhline(0, color="#123456")

    with pytest.raises(KeyError):
        chart_svg(drawing, "x")
