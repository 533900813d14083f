import csv
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from gvsl.records import write_curves
from gvsl.training.metrics_logger import read_curves

COLUMNS = [
    "step",
    *("loss", "ncc", "smoothness", "ncc_affine", "ncc_identity", "folded", "restoration"),
    *("gradient_norm_backbone", "gradient_norm_restoration", "gradient_norm_affine", "gradient_norm_deformable"),
]


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [{"step": 0.0, "loss": 1 / 3}, {"step": 1.0, "loss": 1e-12, "ncc": 0.25}]
    write_curves(tmp_path / "curves.csv", rows)
    assert read_curves(tmp_path / "curves.csv") == rows


def test_without_a_table_there_are_no_rows(tmp_path: Path) -> None:
    assert read_curves(tmp_path / "curves.csv") == []


def test_every_step_of_a_run_is_in_its_table(finished: Path) -> None:
    with (finished / "curves.csv").open(newline="", encoding="utf-8") as file:
        assert sorted(next(csv.reader(file))) == sorted(COLUMNS)
    rows = read_curves(finished / "curves.csv")
    assert [row["step"] for row in rows] == list(range(5))
    for row in rows:
        assert row.keys() == set(COLUMNS)
        assert all(abs(value) < 1e6 for value in row.values())
        assert all(row[name] > 0 for name in COLUMNS if name.startswith("gradient_norm"))
        assert 0 <= row["folded"] <= 1


def test_tensorboard_has_what_the_table_has(finished: Path) -> None:
    events = EventAccumulator(str(finished / "tensorboard"))
    events.Reload()
    rows = read_curves(finished / "curves.csv")
    assert set(COLUMNS) - {"step"} <= set(events.Tags()["scalars"])
    for name in ("loss", "gradient_norm_affine"):
        scalars = events.Scalars(name)
        assert [scalar.step for scalar in scalars] == list(range(5))
        assert [scalar.value for scalar in scalars] == pytest.approx([row[name] for row in rows], rel=1e-5)
