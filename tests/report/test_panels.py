"""Panels: legends that highlight their series on the page, and PDF files of their own."""

import re
import shutil
import subprocess
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text

from gvsl.report.figures.chart import RULES, SERIES, STYLE, gid
from gvsl.report.panels import Block, Entry, Panel, block_html
from gvsl.report.panels_pdf import COLUMNS, panels_figure, write_pdf

EVIL = "</text><script>alert(1)</script>&\"'$x^2_$"
ENTRIES = [Entry(EVIL, SERIES[0]), Entry("b", SERIES[1], "dashed"), Entry("c", SERIES[2], marker="^")]


def draw(axes: Axes) -> None:
    """Draw two parts of one series, and one of another."""
    axes.plot([0, 1], [0, 1], color=SERIES[0], gid=gid(0))
    axes.fill_between([0, 1], [0, 0], [1, 1], color=SERIES[0], gid=gid(0))
    axes.scatter([0, 1], [0, 1], color=SERIES[1], gid=gid(1))


def block(panels: int, title: str = "b", note: str = "", words: str = "c", keys: tuple[int, ...] = ()) -> Block:
    return Block(title, note, ENTRIES, [Panel("t", draw, "two series", words, keys)] * panels)


def test_parts_have_their_series_class_and_name() -> None:
    html = block_html(block(1)).code
    assert html.count('<g class="series s0"><title>&lt;/text&gt;&lt;script&gt;') == 2
    assert html.count('<g class="series s1"><title>b</title>') == 1
    assert 'id="series' not in html


def test_the_rules_turn_all_but_the_entrys_own_parts_faint() -> None:
    rules = dict(re.findall(r"\.linked:has\(\.k(\d+):hover[^{]*\.series:not\(\.s(\d+)\)\{opacity", RULES))
    assert len(rules) >= 28
    assert all(entry == part for entry, part in rules.items())


def test_a_legend_is_the_blocks_or_each_panels() -> None:
    assert re.findall(r'class="k(\d)"', block_html(block(2)).code) == ["0", "1", "2"]
    assert re.findall(r'class="k(\d)"', block_html(block(2, keys=(0, 2))).code) == ["0", "2"] * 2


def test_a_file_is_one_page_of_vectors_with_its_fonts(tmp_path: Path) -> None:
    blocks = [block(4, EVIL, EVIL, "a caption " * 20), block(1)]
    write_pdf(tmp_path / "a.pdf", EVIL, blocks)
    content = (tmp_path / "a.pdf").read_bytes()
    assert content.startswith(b"%PDF-")
    assert content.count(b"/Type /Page\n") + content.count(b"/Type /Page ") == 1
    assert b"/FontFile2" in content  # TrueType, embedded
    assert b"/Type3" not in content
    assert b"/Subtype /Image" not in content
    assert b"CreationDate" not in content
    write_pdf(tmp_path / "b.pdf", EVIL, blocks)
    assert (tmp_path / "b.pdf").read_bytes() == content


def test_a_file_has_all_that_the_page_has() -> None:
    figure = panels_figure([block(4, EVIL, EVIL, "a caption " * 20), block(1)])
    words = [" ".join(text.get_text().split()) for text in figure.findobj(Text)]
    assert words.count(f"{EVIL} {EVIL}") == 1  # heading and note
    assert words.count(EVIL) == 2  # a legend for each block
    assert words.count("t") == 5
    assert words.count(" ".join(["a caption"] * 20)) == 4


def test_panels_of_a_file_lie_side_by_side_and_none_on_another() -> None:
    with mpl.rc_context(STYLE):
        figure = panels_figure([block(COLUMNS + 2, words="words " * 40)])
        figure.draw_without_rendering()
        boxes = [box for axes in figure.axes if axes.has_data() and (box := axes.get_tightbbox())]
    assert len(boxes) == COLUMNS + 2
    for place, box in enumerate(boxes):
        assert box.x0 >= -1 and box.y0 >= -1
        assert box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1
        for other in boxes[place + 1 :]:
            assert box.x1 <= other.x0 or other.x1 <= box.x0 or box.y1 <= other.y0 or other.y1 <= box.y0


def test_focus_on_an_entry_leaves_its_own_parts_alone_in_full(tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("needs Chromium")
    # The script is this test's: the figures have none.
    seen = "[...document.querySelectorAll('.series')].map(e => e.getAttribute('class') + getComputedStyle(e).opacity)"
    script = f"""
        document.querySelector('.k1').focus();
        setTimeout(() => {{ document.body.dataset.seen = {seen}.join(); }}, 1000);
    """
    page = tmp_path / "page.html"
    style = f"<style>{RULES} .series {{ transition: none !important }}</style>"  # no frame is drawn in between
    body = f"<body>{block_html(block(1)).code}<script>{script}</script></body>"
    page.write_text(f"<!DOCTYPE html><meta charset='utf-8'>{style}{body}", encoding="utf-8")
    command = [browser, "--headless=new", "--no-sandbox", "--virtual-time-budget=5000", "--dump-dom", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True, timeout=120).stdout
    found = re.search(r'data-seen="([^"]*)"', dom)
    assert found
    assert sorted(found[1].split(",")) == ["series s00.1", "series s00.1", "series s11"]
