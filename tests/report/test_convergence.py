"""Steps to 95 %, from made-up curve files, by a plain reading of the file."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gvsl.metrics.bootstrap import steps_to_level
from gvsl.report.convergence import mean_curve, speeds, steps_to_best, validation
from gvsl.report.grouping import chart_groups
from gvsl.report.runs import Curve, read_runs

Maker = Callable[..., Path]


def write(folder: Path, scores: dict[int, float], column: str = "val_dice") -> None:
    """A curve file with a loss at every step and a score at some."""
    lines = [f"step,loss,{column}"] + [f"{step},1.0,{scores.get(step, '')}" for step in range(5, 105, 5)]
    (folder / "curves.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def plain_steps(folder: Path, level: float | None = None) -> int | None:
    """The first step in the file with 95 % of its best score, or with at least `level`."""
    rows = [row for row in csv.DictReader((folder / "curves.csv").open(encoding="utf-8")) if row["val_dice"]]
    scores = [(int(row["step"]), float(row["val_dice"])) for row in rows]
    wanted = 0.95 * max(score for _, score in scores) if level is None else level
    return next((step for step, score in scores if score >= wanted), None)


def test_steps_and_differences_are_those_of_the_files(tmp_path: Path, transfer_folder: Maker) -> None:
    made = {
        ("gvsl", 0): {20: 0.3, 40: 0.59, 60: 0.62, 80: 0.61},
        ("gvsl", 1): {20: 0.55, 40: 0.5, 60: 0.57, 80: 0.56},
        ("scratch", 0): {20: 0.1, 40: 0.2, 60: 0.49, 80: 0.5},
        ("scratch", 2): {20: 0.1, 40: 0.2, 60: 0.3, 80: 0.6},
    }
    for (method, seed), scores in made.items():
        write(transfer_folder(tmp_path / f"{method}-{seed}", seed, method == "gvsl"), scores)
    (study,), alone = chart_groups(read_runs([tmp_path]))
    assert not alone
    found = {speed.method: speed for speed in speeds(study)}
    assert list(found) == ["scratch", "gvsl"]
    for method, speed in found.items():
        own = [plain_steps(tmp_path / f"{method}-{seed}") for seed in speed.seeds]
        assert speed.steps == own
        assert speed.mean_steps == np.mean([step for step in own if step is not None])
    assert (found["gvsl"].steps, found["scratch"].steps) == ([40, 20], [60, 80])
    assert (found["gvsl"].gap, found["gvsl"].paired) == (40 - 60, 1)  # seed 0 is all that both have
    assert found["scratch"].gap is None
    level = 0.95 * (0.5 + 0.6) / 2
    assert found["gvsl"].level_steps == [plain_steps(tmp_path / f"gvsl-{seed}", level) for seed in (0, 1)]
    assert found["scratch"].level_steps == [None, 80]
    assert found["gvsl"].best == pytest.approx((0.62 + 0.57) / 2)


def test_two_runs_of_one_seed_count_as_their_mean(tmp_path: Path, transfer_folder: Maker) -> None:
    for name, pretrained, scores in (
        ("a", True, {20: 0.5}),
        ("b", True, {20: 0.1, 60: 0.5}),
        ("c", False, {20: 0.1, 90: 0.5}),
    ):
        weights = f"../{name}/weights" if pretrained else "scratch"
        config = {"mode": "linear", "weights": weights, "method": "gvsl" if pretrained else "scratch", "labelled": 20}
        write(transfer_folder(tmp_path / name, 0, pretrained, name=name, config=config), scores)
    (study,), _ = chart_groups(read_runs([tmp_path]))
    mine = speeds(study)[1]
    assert (mine.gap, mine.paired) == ((20 + 60) / 2 - 90, 1)
    assert study.notes == "Several runs of one seed, which count as their mean: gvsl."


def test_a_score_that_never_rises_has_no_step() -> None:
    steps = np.array([5.0, 10.0])
    assert steps_to_best(Curve(steps, np.zeros(2))) is None
    assert steps_to_best(Curve(steps, np.array([0.95, 1.0]))) == 5.0
    assert steps_to_level(steps, np.array([0.1, 0.2]), 0.3) is None


def test_scores_that_are_no_number_count_for_nothing(tmp_path: Path, transfer_folder: Maker) -> None:
    folder = transfer_folder(tmp_path / "run", 0, True)
    (folder / "curves.csv").write_text("step,val_dice\n5,nan\n10,0.4\n15,0.8\n", encoding="utf-8")
    (run,) = read_runs([folder])
    curve = validation(run)
    assert curve is not None
    assert curve.steps.tolist() == [10, 15]
    (folder / "curves.csv").write_text("step,val_dice\n5,nan\n", encoding="utf-8")
    assert validation(read_runs([folder])[0]) is None


def test_the_mean_is_over_steps_that_all_seeds_have(tmp_path: Path, transfer_folder: Maker) -> None:
    write(transfer_folder(tmp_path / "a", 0, True), {10: 0.2, 20: 0.4, 30: 0.5})
    write(transfer_folder(tmp_path / "b", 1, True), {20: 0.6, 30: 0.3, 40: 0.9})
    steps, mean, low, high = mean_curve(read_runs([tmp_path]))
    assert steps.tolist() == [20, 30]
    np.testing.assert_allclose([mean, low, high], [[0.5, 0.4], [0.4, 0.3], [0.6, 0.5]])


def test_a_classification_is_scored_by_its_auc(tmp_path: Path, transfer_folder: Maker) -> None:
    folder = transfer_folder(tmp_path / "run", 0, True)
    write(folder, {10: 0.6, 20: 0.9}, "val_auc")
    curve = validation(read_runs([folder])[0])
    assert curve is not None
    assert steps_to_best(curve) == 20
