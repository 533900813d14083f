"""The page in a browser: without one complaint in its console, on a wide screen and on a phone."""

from collections.abc import Callable
from pathlib import Path

from gvsl.report import write_report

from ..conftest import write_transfer
from .opened import EVIL, Opened, choose, made


def test_the_page_opens_without_a_complaint(show: Callable[..., Opened], pictured: Path) -> None:
    for width in (1280, 360):
        opened = show(pictured, width)
        opened.page.wait_for_selector(".viewer canvas")
        for scheme in ("light", "dark"):
            opened.page.emulate_media(color_scheme=scheme)
            wide = opened.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{wide} wide on a screen of {width}"
            paper = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, paper[4:-1].split(","))) > 3 * 128) is (scheme == "light")
        assert opened.complaints == []


def test_names_stay_text(show: Callable[..., Opened], report: Path) -> None:
    opened = show(report)
    choose(opened.page, "linear on gvsl, seed 0")
    assert opened.page.inner_text(".viewer-choices button >> nth=0") == f"best: {EVIL}"
    assert opened.page.locator("main script:not([type])").count() == 0
    assert opened.complaints == []


def test_columns_sort_and_hide(show: Callable[..., Opened], report: Path) -> None:
    page = show(report).page
    methods = "[...document.querySelectorAll('table.table1 tbody tr')].map(row => row.cells[0].textContent)"
    figures = "[...document.querySelectorAll('table.table1 tbody tr')].map(row => Number(row.cells[1].dataset.sort))"
    head = page.locator("table.table1 thead th")
    head.nth(1).locator("button").click()
    assert head.nth(1).get_attribute("aria-sort") == "descending"
    found = page.evaluate(figures)
    assert found == sorted(found, reverse=True)
    assert page.evaluate(methods) == ["gvsl", "scratch"]
    head.nth(1).locator("button").press("Enter")
    assert head.nth(1).get_attribute("aria-sort") == "ascending"
    assert page.evaluate(figures) == sorted(found)
    head.nth(0).locator("button").click()
    assert head.nth(1).get_attribute("aria-sort") is None
    page.locator("details.columns summary").click()
    page.locator("details.columns input").first.uncheck()
    assert not page.locator("table.table1 thead th").nth(1).is_visible()
    assert not page.locator("table.table1 tbody tr >> nth=0").locator("td").first.is_visible()
    runs = "[...document.querySelectorAll('table.runs tbody')].map(body => body.rows[0].cells[0].textContent)"
    page.locator("table.runs thead th").first.locator("button").click()
    assert page.evaluate(runs) == sorted(page.evaluate(runs))
    assert page.evaluate("[...document.querySelectorAll('table.runs tbody')].every(body => body.rows.length === 2)")


def test_tables_scroll_by_keyboard_and_leave_a_phone_room_beside_the_methods(
    show: Callable[..., Opened], report: Path
) -> None:
    page = show(report, 390).page
    head = page.locator("table.table1 thead th").first
    assert head.bounding_box()["width"] < 0.35 * 390
    assert page.locator("table.table1 thead th").nth(1).evaluate("head => head.innerText.split('\\n').length") == 2
    area = page.locator(".scroll:has(table.table1)")
    area.evaluate("area => { area.firstChild.style.width = '900px'; area.focus(); }")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('.scroll:has(table.table1)').scrollLeft > 0")


def test_a_link_opens_the_runs_that_are_folded_away(show: Callable[..., Opened], tmp_path: Path) -> None:
    for number in range(26):
        write_transfer(made(tmp_path / f"{number}"), number, number % 2 == 0, pictures=[], curves=None)
    page = show(write_report([tmp_path], tmp_path / "report.html")).page
    link = page.locator("table.table1 tbody a").first
    target = page.locator(link.get_attribute("href"))
    assert not target.is_visible()
    link.click()
    target.locator("details[open]").wait_for()
    assert target.is_visible()


def test_a_figure_leads_to_the_run_that_made_it(show: Callable[..., Opened], report: Path) -> None:
    page = show(report).page
    link = page.locator("table.table1 tbody a").first
    link.click()
    target = page.locator(link.get_attribute("href"))
    target.locator("details[open]").wait_for()
    for text in ("9f2c4be1d07a55c3", "AMD EPYC", "gvsl 0.1.0", "max_steps"):
        assert text in target.inner_text()
