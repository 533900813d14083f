"""Command lines quoted in README and docs: the commands and options exist, and choices are ones."""

import re
import shlex
from pathlib import Path

import pytest

from gvsl.cli import main
from gvsl.cli.pretrain import pretrain_options
from gvsl.cli.transfer import transfer_options

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
USAGE = re.compile(r"\[--|\||NAME")
"""A line of usage rather than an example."""


def commands(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ").replace("$METHOD", "simclr")
    return [line for line in re.findall(r"^ *(gvsl \w.*)$", text, re.MULTILINE) if not USAGE.search(line)]


LINES = {line.partition(" #")[0].strip(): page.relative_to(ROOT) for page in reversed(PAGES) for line in commands(page)}
"""Each distinct command line, and the first page that has it."""


@pytest.mark.no_cover  # it is slow where coverage is measured, and reaches nothing that test_argv.py doesn't
@pytest.mark.parametrize(("line", "page"), LINES.items(), ids=[f"{page}: {line}" for line, page in LINES.items()])
def test_a_quoted_command_line_parses(line: str, page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = shlex.split(line, comments=True)[1:]
    with pytest.raises(SystemExit) as ended:  # --help ends it once all names and choices have been checked
        raise SystemExit(main([*argv, "--help"]))
    assert (ended.value.code, capsys.readouterr().err) == (0, ""), page


def test_readme_quotes_commands() -> None:
    assert len(commands(ROOT / "README.md")) >= 7


def test_the_recipe_in_the_docs_is_one(tmp_path: Path) -> None:
    (recipe,) = re.findall(
        r"^```yaml\n(.*?)^```$", (ROOT / "docs/pretrain.md").read_text(encoding="utf-8"), re.M | re.S
    )
    path = tmp_path / "mine.yaml"
    path.write_text(recipe, encoding="utf-8")
    settings = pretrain_options(["store", "--out", "run", "--recipe", str(path)]).settings
    assert (settings.data.batch_size, settings.data.crop, settings.pretext.spatial.rotation) == (2, (64, 64, 48), 10.0)
    assert settings.optimiser.learning_rate == 5e-4
    words = ["store", "--out", "run", "--recipe", str(path)]
    assert pretrain_options([*words, "--method", "simclr"]).settings.data.batch_size == 8
    assert transfer_options([*words, "--weights", "scratch", "--mode", "linear"]).settings.patience == 4
