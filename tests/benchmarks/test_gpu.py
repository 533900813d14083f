import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from gvsl.datasets import folder
from gvsl.errors import UserError
from gvsl.phantom.cohort import write_phantom
from gvsl.preparation import prepare
from gvsl.preprocessing import PRESETS
from gvsl.store import Store

TINY = ("--device", "cpu", "--variants", "fp32", "--width", "8", "--step-pairs", "1", "--repeats", "1")


def start(script: ModuleType, store: Store, out: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script.__file__), str(store.path), "--out", str(out), *TINY, *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def rows(out: Path, part: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((out / f"{part}.json").read_text(encoding="utf-8"))["rows"]
    return found


def test_ncc_is_timed_beside_monai(gpu: ModuleType, tmp_path: Path) -> None:
    gpu.ncc(Namespace(device="cpu", sizes=[8, 12], repeats=2, out=tmp_path))
    timed = rows(tmp_path, "ncc")
    assert [(row["size"], row["loss"]) for row in timed] == [(8, "gvsl"), (8, "monai"), (12, "gvsl"), (12, "monai")]
    assert all(0 < row["min"] <= row["median"] <= row["max"] for row in timed)
    assert all(gpu.describe(row) for row in timed)


def test_a_step_that_cannot_be_compiled_is_a_row_with_the_error(gpu: ModuleType) -> None:
    method = gpu.GVSL(gpu.UNet3D(width=8, levels=2))
    batch = gpu.pairs(8, 1, torch.device("cpu"))
    row = gpu.time_step(method, batch, "fp32", "no such mode", 1)
    assert set(row) == {"error"}
    assert "no such mode" in gpu.describe(row)
    plain = gpu.time_step(method, batch, "fp32", None, 1)
    assert plain["last_loss"] > 0
    assert f"last loss {plain['last_loss']:.5f}" in gpu.describe(plain)


def test_a_failed_command_is_told_by_its_last_line(gpu: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gvsl fly failed: .*no command"):
        gpu.gvsl(["fly"], tmp_path / "run", Namespace(out=tmp_path))


def test_a_kit_replaces_nothing(gpu: ModuleType, store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists"):
        gpu.collect(Namespace(collect=tmp_path, store=store.path, python="3.12"))


@pytest.mark.slow
def test_every_part_leaves_its_rows(gpu: ModuleType, tmp_path: Path) -> None:
    write_phantom(tmp_path / "volumes", 7, shape=(16, 16, 16), train=2, val=2, test=2)
    source = folder(tmp_path / "volumes")
    store = prepare(source.cases, tmp_path / "store", PRESETS["ct"], label_names=source.label_names, source="phantom")
    training = ("--pairs", "1", "--workers", "0", "--precision", "fp32", "--max-steps", "2")
    done = start(gpu, store, tmp_path / "out", "--sizes", "16", "--minutes", "20", *training)
    assert done.returncode == 0, done.stderr
    assert {Path(row["file"]).name for row in rows(tmp_path / "out", "tests")} >= {"test_gpu.py", "test_hardware.py"}
    assert all(row["exit"] == 0 for row in rows(tmp_path / "out", "tests"))
    assert [row["size"] for row in rows(tmp_path / "out", "steps")] == [16]
    trained = rows(tmp_path / "out", "train")
    assert [row["name"] for row in trained] == list(gpu.TRAINED)
    for row in trained:
        assert "error" not in row
        assert row["steps"] == 2
        assert "test/dice" in row["linear"]
        for kind in ("pretrain", "linear"):
            assert (tmp_path / "out" / "records" / f"{kind}-{row['name']}" / "record.json").is_file()


@pytest.mark.slow
def test_parts_end_with_the_budget_and_the_next_ones_have_their_turn(
    gpu: ModuleType, store: Store, tmp_path: Path
) -> None:
    done = start(gpu, store, tmp_path / "out", "--minutes", "0.02", "--parts", "steps", "ncc", "--sizes", "256")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("cut off") == 2
    assert list((tmp_path / "out").iterdir()) == []
