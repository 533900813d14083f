"""Charts as inline SVG: themed, of unique ids, with text as text."""

import re

import matplotlib as mpl

from gvsl.report.figures.chart import SERIES, chart


def draw(height: float) -> str:
    """A chart with a clipped line and a name that looks like mathematics."""
    with chart("<what it shows>") as (axes, drawn):
        axes.plot([0, 1], [0, height], color=SERIES[0], marker="o")
        axes.set_title("cost $x^ & <more>")
    return drawn[0]


def test_colours_are_the_pages_and_text_is_text() -> None:
    svg = draw(1)
    assert "var(--c1)" in svg
    assert "#fe00" not in svg
    assert "cost $x^ &amp; &lt;more&gt;" in svg
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
