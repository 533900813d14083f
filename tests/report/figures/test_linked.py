"""Legends that pick out their parts, and figures as files of their own."""

import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from gvsl.report.figures.chart import SERIES, chart
from gvsl.report.figures.linked import RULES, Block, Entry, Panel, document, gid, with_names

EVIL = "</text><script>alert(1)</script>&\"'"
ENTRIES = [Entry(EVIL, SERIES[0]), Entry("b", SERIES[1], "dashed"), Entry("c", SERIES[2], marker="^")]


def drawn() -> str:
    with chart("two parts of one series, one of another") as (axes, svg):
        axes.plot([0, 1], [0, 1], color=SERIES[0], gid=gid(0))
        axes.fill_between([0, 1], [0, 0], [1, 1], color=SERIES[0], gid=gid(0))
        axes.scatter([0, 1], [0, 1], color=SERIES[1], gid=gid(1))
    return with_names(svg[0], ENTRIES)


def test_parts_have_their_series_class_and_name() -> None:
    svg = drawn()
    assert svg.count('<g class="series s0"><title>&lt;/text&gt;&lt;script&gt;') == 2
    assert svg.count('<g class="series s1"><title>b</title>') == 1
    assert 'id="series' not in svg


def test_the_rules_turn_all_but_the_entrys_own_parts_faint() -> None:
    rules = dict(re.findall(r"\.linked:has\(\.k(\d+):hover[^{]*\.series:not\(\.s(\d+)\)\{opacity", RULES))
    assert len(rules) >= 28
    assert all(entry == part for entry, part in rules.items())


def test_a_file_is_one_whole_svg_with_nothing_but_itself() -> None:
    own = Panel("first", drawn(), "a caption " * 20, keys=(0, 1))
    blocks = [Block(EVIL, EVIL, ENTRIES, [own] * 4), Block("b", "", ENTRIES, [Panel("t", drawn(), "c")])]
    text = document(EVIL, blocks)
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{space}svg"
    assert not list(root.iter(f"{space}script"))
    words = ["".join(node.itertext()) for node in root.iter(f"{space}text")]
    assert words.count(EVIL) == 1 + 2 + 4 + 1  # title; heading and note; a legend a panel, and the block's
    assert "url(http" not in text
    assert "#fe00" not in text
    assert not set(re.findall(r"var\((--[a-z0-9]+)\)", text)) - set(re.findall(r"(--[a-z0-9]+):", text))
    assert "prefers-color-scheme: dark" in text


def test_panels_lie_side_by_side_and_none_on_another() -> None:
    block = Block("b", "", ENTRIES, [Panel("t", drawn(), "words " * 40, keys=(0, 1, 2))] * 5)
    found = re.findall(
        r'<svg x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)" viewBox="0 0 3', document("t", [block])
    )
    boxes = [tuple(map(float, box)) for box in found]
    assert len(boxes) == 5
    for place, (x, y, width, height) in enumerate(boxes):
        for across, down, _, _ in boxes[place + 1 :]:
            assert across >= x + width or across + width <= x or down >= y + height


def test_focus_on_an_entry_leaves_its_own_parts_alone_in_full(tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("needs Chromium")
    text = document("t", [Block("b", "", ENTRIES, [Panel("t", drawn(), "c")])])
    # The script is this test's: the figures have none.
    seen = "[...document.querySelectorAll('.series')].map(e => e.getAttribute('class') + getComputedStyle(e).opacity)"
    script = f"""
        document.querySelector('.k1').focus();
        setTimeout(() => {{ document.body.dataset.seen = {seen}.join(); }}, 1000);
    """
    page = tmp_path / "page.html"
    at_once = "<style>.series { transition: none !important }</style>"  # no frame is drawn in which it could go on
    page.write_text(
        f"<!DOCTYPE html><meta charset='utf-8'>{at_once}<body>{text}<script>{script}</script></body>", encoding="utf-8"
    )
    command = [browser, "--headless=new", "--no-sandbox", "--virtual-time-budget=5000", "--dump-dom", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True, timeout=120).stdout
    found = re.search(r'data-seen="([^"]*)"', dom)
    assert found
    assert sorted(found[1].split(",")) == ["series s00.1", "series s00.1", "series s11"]
