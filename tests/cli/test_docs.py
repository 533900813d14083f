"""Command lines quoted in README and docs: the commands and options exist, and choices are ones."""

import re
import shlex
from pathlib import Path

import pytest

from gvsl.cli import main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
USAGE = re.compile(r"\[--|\||NAME")
"""A line of usage rather than an example."""


def commands(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ").replace("$METHOD", "simclr")
    return [line for line in re.findall(r"^ *(gvsl \w.*)$", text, re.MULTILINE) if not USAGE.search(line)]


LINES = [(page.relative_to(ROOT), line) for page in PAGES for line in commands(page)]


@pytest.mark.no_cover  # it is slow where coverage is measured, and reaches nothing that test_argv.py doesn't
@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{page}: {line}" for page, line in LINES])
def test_a_quoted_command_line_parses(page: Path, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv = shlex.split(line, comments=True)[1:]
    with pytest.raises(SystemExit) as ended:  # --help ends it once all names and choices have been checked
        raise SystemExit(main([*argv, "--help"]))
    assert (ended.value.code, capsys.readouterr().err) == (0, ""), page


def test_readme_quotes_commands() -> None:
    assert len(commands(ROOT / "README.md")) >= 7
