"""The page's pieces escape what they are given."""

from gvsl.report.page import Html, details, element, page, table, text, unfolded

EVIL = "<b>\"'&"
SAFE = "&lt;b&gt;&quot;&#x27;&amp;"


def test_text_and_attributes_are_escaped() -> None:
    assert text(EVIL).code == SAFE
    assert element("p", EVIL, css=EVIL, aria_label=EVIL).code == f'<p class="{SAFE}" aria-label="{SAFE}">{SAFE}</p>'
    assert details(EVIL).code == f"<details><summary>{SAFE}</summary></details>"


def test_html_passes_as_it_is() -> None:
    assert element("p", Html("<i></i>"), "a").code == "<p><i></i>a</p>"


def test_numbers_in_a_table_are_marked() -> None:
    code = table(["name", "value"], [["a", "1"]], EVIL).code
    assert '<td>a</td><td class="figure">1</td>' in code
    assert SAFE in code


def test_a_table_can_be_scrolled_by_the_keyboard() -> None:
    code = table(["name", "value"], [["a", "1"]], EVIL).code
    assert code.startswith(f'<div class="scroll" tabindex="0" role="region" aria-label="{SAFE}">')


def test_of_many_blocks_one_is_shown_and_one_click_away_are_the_names_of_the_others() -> None:
    blocks = [(f"name {number}", element("p", f"block {number}")) for number in range(7)]
    few = unfolded(blocks[:4], 2)
    assert [part.code.startswith("<details") for part in few] == [False, False, True, True]
    first, rest = unfolded(blocks, 2)
    assert first.code == "<p>block 0</p>"
    assert rest.code.startswith("<details><summary>6 more</summary><details><summary>name 1</summary>")


def test_page_forbids_scripts_and_the_network() -> None:
    code = page(EVIL, [("a", "A")], text("body"))
    assert "default-src 'none'" in code
    assert f"<title>{SAFE}</title>" in code
    assert code.startswith("<!DOCTYPE html>")
