"""The tutorials: they run from start to end, keep their pictures, and stay small."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "docs/tutorials"
TUTORIALS = sorted(FOLDER.glob("*.ipynb"))
MOST_BYTES = 600_000


def cells(notebook: Path) -> list[dict[str, Any]]:
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


def outputs(notebook: Path) -> list[dict[str, Any]]:
    return [output for cell in cells(notebook) for output in cell.get("outputs", ())]


def test_there_are_tutorials() -> None:
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert len(TUTORIALS) >= 3
    assert [notebook.name for notebook in TUTORIALS if f"({notebook.name})" not in index] == []


@pytest.mark.parametrize("notebook", TUTORIALS, ids=lambda notebook: notebook.stem)
def test_it_keeps_its_pictures_and_stays_small(notebook: Path) -> None:
    assert sum("image/png" in output.get("data", {}) for output in outputs(notebook)) >= 2
    assert not [
        output for output in outputs(notebook) if output["output_type"] == "error" or output.get("name") == "stderr"
    ]
    assert notebook.stat().st_size < MOST_BYTES


@pytest.mark.parametrize("notebook", TUTORIALS, ids=lambda notebook: notebook.stem)
def test_its_cells_are_in_the_order_of_their_outputs(notebook: Path) -> None:
    counts = [cell["execution_count"] for cell in cells(notebook) if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))


@pytest.mark.slow
@pytest.mark.parametrize("notebook", TUTORIALS, ids=lambda notebook: notebook.stem)
def test_it_runs(notebook: Path, tmp_path: Path) -> None:
    pytest.importorskip("nbclient", reason='pip install "gvsl[tutorials]"')
    pytest.importorskip("ipykernel", reason='pip install "gvsl[tutorials]"')
    command = [sys.executable, str(FOLDER / "run.py"), str(notebook), "--out", str(tmp_path)]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    drawn, kept = (
        sum("image/png" in output.get("data", {}) for output in outputs(path))
        for path in (tmp_path / notebook.name, notebook)
    )
    assert drawn == kept
