"""Properties of all datasets."""

import inspect
from pathlib import Path

import pytest

from gvsl.cli import main
from gvsl.datasets import DATASETS
from gvsl.errors import UserError

CARDS = Path(__file__).parents[2] / "docs" / "datasets"


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_has_a_page(name: str) -> None:
    text = (CARDS / f"{name}.md").read_text(encoding="utf-8")
    for heading in ("## Licence", "## Layout", "## Splits", "## Prepare"):
        _, found, section = text.partition(heading + "\n")
        assert found and section.partition("\n## ")[0].strip(), heading
    assert "gvsl prepare " in text
    assert name == "folder" or f"--dataset {name}" in text
    assert f"({name}.md)" in (CARDS / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", DATASETS)
def test_other_folders_are_refused_by_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no data set", encoding="utf-8")
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=str(place)) as caught:
            DATASETS[name](place)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", DATASETS)
def test_a_fold_is_used_or_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["prepare", str(tmp_path), str(tmp_path / "store"), "--dataset", name, "--fold", "0"]
    assert main(command) == 2
    output = capsys.readouterr().err
    assert ("has no folds" in output) is ("fold" not in inspect.signature(DATASETS[name]).parameters)
