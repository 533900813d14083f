import csv
import io

import pytest

from gvsl.text import plain_cell, table_cell, visible

TEXTS = ("=1+2", "+a", "-a", "@x", "\tx", "'=x", "''=x", "'x", "-1.5", "+2e-3", "-", "a=b", "", "scan -1", "-1.5.2")


@pytest.mark.parametrize("text", TEXTS)
def test_a_cell_is_no_formula_and_comes_back_as_it_was(text: str) -> None:
    file = io.StringIO()
    csv.writer(file).writerow([table_cell(text)])
    (row,) = csv.reader(io.StringIO(file.getvalue()))
    assert plain_cell(row[0]) == text
    assert not row[0].startswith(("=", "+", "-", "@", "\t")) or float(row[0]) == float(text)


def test_numbers_stay_numbers() -> None:
    assert [table_cell(text) for text in ("-1.5", "+2e-3", "7", "-.5")] == ["-1.5", "+2e-3", "7", "-.5"]


def test_lines_and_letters_stay_as_they_are() -> None:
    text = "Zürich \N{SNOWMAN}\tcase 1\n"
    assert visible(text) == text
    assert visible("a\r\x00\x9b\ud800") == "a\\r\\x00\\x9b\\ud800"
