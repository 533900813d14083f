import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from gvsl.backbones import UNet3DSettings
from gvsl.data import DataSettings
from gvsl.errors import UserError
from gvsl.geometry import warp
from gvsl.records import read_record
from gvsl.store import Store
from gvsl.training import OptimiserSettings, PretrainSettings, TrainerSettings, evaluate_pretraining, pretrain

Row = dict[str, Any]


@pytest.fixture(scope="module")
def runs(phantom_store: Store, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two short pre-trainings of different seeds, fast enough that their fields move labels."""
    folder, found = tmp_path_factory.mktemp("runs"), []
    for seed in (0, 1):
        settings = PretrainSettings(
            seed=seed,
            backbone=UNet3DSettings(width=8, levels=3),
            data=DataSettings(batch_size=1, crop=(16, 16, 16), workers=0),
            optimiser=OptimiserSettings(learning_rate=3e-2),
            trainer=TrainerSettings(max_steps=2, device="cpu"),
        )
        found.append(folder / f"seed{seed}")
        pretrain(phantom_store, found[-1], settings)
        evaluate_pretraining(found[-1], phantom_store)
    return found


def compare(script: ModuleType, store: Store, out: Path, monkeypatch: pytest.MonkeyPatch, *argv: object) -> list[Row]:
    """Run the command, and return the rows of its JSON."""
    threads = torch.get_num_threads()
    command = ["registration.py", str(store.path), "--out", str(out), *map(str, argv)]
    monkeypatch.setattr(sys, "argv", command)
    try:
        assert script.main() == 0
    finally:
        torch.set_num_threads(threads)
    rows: list[Row] = json.loads((out / "registration.json").read_text(encoding="utf-8"))["rows"]
    return rows


def test_rows_agree_with_the_evaluation_of_each_run(
    registration: ModuleType, phantom_store: Store, runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = compare(registration, phantom_store, tmp_path, monkeypatch, "--without-ants", "--refine", 3, "--run", *runs)
    parts = ["gvsl affine part", "gvsl field"]
    of_a_run = [*parts, *(f"{part}, 3 steps" for part in parts)]
    assert [row["name"] for row in rows] == ["no warp", "no warp, 3 steps", *of_a_run * 2]
    for row in rows:
        assert (row["refinement_seconds"] > 0) == row["name"].endswith("steps")
    assert rows[0]["dsc_interpolated"] == pytest.approx(rows[0]["dsc"])  # nothing moves
    fields = [row for row in rows if row["name"] == "gvsl field"]
    assert [row["seed"] for row in fields] == [0, 1]
    for run, row in zip(runs, fields, strict=True):
        metrics = read_record(run).metrics
        assert rows[0]["dsc"] == pytest.approx(metrics["val/dice_before"])
        assert row["dsc"] == pytest.approx(metrics["val/dice_after"])
        assert row["dsc"] != rows[0]["dsc"]
        assert row["folded"] == pytest.approx(metrics["val/folded"])
    shown = (tmp_path / "registration.md").read_text(encoding="utf-8")
    mean = np.mean([row["dsc"] for row in fields])
    assert f"| gvsl field | {mean:.3f} |" in shown
    assert f"{fields[0]['dsc']:.3f} (0), {fields[1]['dsc']:.3f} (1)" in shown


def test_missing_ants_is_one_line_that_names_the_extra(
    registration: ModuleType, phantom_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ants", None)
    monkeypatch.setattr(sys, "argv", ["registration.py", str(phantom_store.path)])
    assert registration.main() == 2
    message = capsys.readouterr().err
    assert "gvsl[benchmarks]" in message
    assert message.count("\n") == 1


def test_a_single_volume_makes_no_pair(
    registration: ModuleType, make_store: Callable[..., Store], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="it has 1"):
        registration.read_pairs(make_store(), "train", (16, 16, 16))


def test_a_volume_without_labels_is_named(registration: ModuleType, build_store: Callable[..., Store]) -> None:
    store = build_store(lambda number, label: None if number == 6 else label)  # 5 and 6 are the validation cases
    with pytest.raises(UserError, match="s6 has none"):
        registration.read_pairs(store, "val", (16, 16, 16))


@pytest.mark.parametrize("kind", ["Affine", "SyN"])
def test_the_field_of_ants_warps_as_ants_does(registration: ModuleType, kind: str, tmp_path: Path) -> None:
    pytest.importorskip("ants", reason="needs antspyx, of the extra `benchmarks`")
    ants = registration.import_ants()
    points = np.indices((24, 20, 28)).astype(np.float32)
    labels = []
    for centre, radii in (((11, 9, 13), (6, 4, 9)), ((13, 10, 15), (7, 5, 7))):
        distance = sum(((points[axis] - centre[axis]) / radii[axis]) ** 2 for axis in range(3))
        labels.append((distance < 1).astype(np.float32) + (distance < 0.3))
    fixed, moving = (ants.from_numpy(label) for label in labels)
    transforms = ants.registration(fixed, moving, type_of_transform=kind, outprefix=f"{tmp_path}/")["fwdtransforms"]
    dvf = registration.field_of(ants, fixed, moving, transforms, tmp_path)
    theirs = ants.apply_transforms(fixed, moving, transforms, interpolator="nearestNeighbor").numpy()
    ours = warp(torch.from_numpy(labels[1])[None, None], dvf, mode="nearest")[0, 0].numpy()
    assert (ours != labels[1]).mean() > 0.02
    assert (ours != theirs).mean() < 1e-4
