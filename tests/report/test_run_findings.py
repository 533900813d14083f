"""What the report warns of: each finding appears for its cause, and not without it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gvsl.report.data import ReportData
from gvsl.report.run_findings import Finding, wrong_order
from gvsl.report.runs import read_runs

Maker = Callable[..., Path]
GOOD = {"val/ncc": 0.3, "val/ncc_affine": 0.4, "val/ncc_identity": 0.5, "val/folded": 0.001}


def of(folder: Path) -> list[Finding]:
    """The findings of the runs below a folder."""
    runs = read_runs([folder])
    return ReportData(runs).findings


def test_a_study_that_went_well_has_none(study: list[Path]) -> None:
    runs = read_runs(study)
    assert ReportData(runs).findings == []


@pytest.mark.parametrize(
    "values", [(0.5, 0.4, 0.6), (0.3, 0.7, 0.6), (0.4, 0.4, 0.6), (0.3, 0.6, 0.6), (np.nan, 0.4, 0.6)]
)
def test_matching_losses_out_of_order(values: tuple[float, float, float]) -> None:
    assert "this run is broken" in (wrong_order(*values) or "")


def test_matching_losses_in_order_or_not_known() -> None:
    assert wrong_order(0.3, 0.4, 0.5) is None
    assert wrong_order(None, 0.4, 0.3) is None


@pytest.mark.parametrize(
    ("metrics", "level", "words"),
    [
        ({"val/ncc": 0.45}, "broken", "on held-out pairs ncc 0.4500"),
        ({"val/folded": 0.0101}, "caution", "1.01 % of voxels folded on held-out pairs"),
        ({"val/dice_before": 0.5, "val/dice_after": 0.5}, "caution", "no better after matching"),
    ],
)
def test_bad_metrics_of_pretraining(
    tmp_path: Path, pretrain_folder: Maker, metrics: dict[str, float], level: str, words: str
) -> None:
    pretrain_folder(tmp_path, metrics=GOOD | metrics, pictures=[])
    (finding,) = of(tmp_path)
    assert finding.level == level
    assert words in finding.text


@pytest.mark.parametrize(
    ("spoil", "level", "words"),
    [
        (("ncc", lambda curves: curves["ncc_affine"] + 0.1), "broken", "at the end of training"),
        (
            ("gradient_norm_affine", lambda curves: 0 * curves["ncc"]),
            "broken",
            "affine part never had a gradient",
        ),
        (
            ("smoothness", lambda curves: np.where(np.arange(200) == 7, np.nan, 1)),
            "broken",
            "1 logged value of smoothness",
        ),
        (
            ("folded", lambda curves: 0 * curves["ncc"] + 0.02),
            "caution",
            "2.00 % of voxels folded at the end",
        ),
    ],
)
def test_bad_curves(tmp_path: Path, pretrain_folder: Maker, spoil: Any, level: str, words: str) -> None:
    rng = np.random.default_rng(0)
    names = ("ncc", "ncc_affine", "ncc_identity", "smoothness", "folded", "gradient_norm_affine")
    levels = (0.3, 0.4, 0.5, 0.02, 0.001, 1.0)
    curves = {name: level + 0.01 * level * rng.standard_normal(200) for name, level in zip(names, levels, strict=True)}
    name, make = spoil
    pretrain_folder(tmp_path, curves_data=curves | {name: make(curves)}, pictures=[])
    (finding,) = of(tmp_path)
    assert finding.level == level
    assert words in finding.text


def test_failures_come_first(tmp_path: Path, pretrain_folder: Maker, transfer_folder: Maker) -> None:
    pretrain_folder(tmp_path / "a", metrics=GOOD | {"val/folded": 0.5}, pictures=[])
    transfer_folder(tmp_path / "b", 0, True, status="failed", pictures=[], cases=[], metrics={})
    assert [finding.level for finding in of(tmp_path)] == ["failed", "caution"]


def test_comparisons_that_are_not_sound(tmp_path: Path, transfer_folder: Maker) -> None:
    config = {
        "mode": "linear",
        "weights": "w",
        "method": "gvsl",
        "max_steps": 1200,
        "labelled": 20,
        "lr": 1e-4,
        "new": 1,
    }
    rows = [{"id": "case_00", "dice": 0.1}, {"id": "case_01", "dice": 0.2}]
    transfer_folder(tmp_path / "a", 0, True, config=config, cases=rows, metrics={"test/dice": 0.4}, pictures=[])
    transfer_folder(tmp_path / "b", 0, False, pictures=[])
    texts = " | ".join(finding.text for finding in of(tmp_path))
    for words in (
        "test DSC 0.400 is not the mean of its cases, 0.150",
        "10 cases left out",
        "not recorded in every run, and taken to agree: new",
        "fewer than 3 seeds: every arm has 1",
        "gvsl (−0.388 DSC) is not ahead of a random start",
    ):
        assert words in texts, words


def test_an_arm_without_baseline_is_mentioned(tmp_path: Path, transfer_folder: Maker) -> None:
    transfer_folder(tmp_path, 0, False, pictures=[])
    (finding,) = of(tmp_path)
    assert "no finished run on pre-trained features" in finding.text


def pretext_run(pretrain_folder: Callable[..., Path], tmp_path: Path, **ends: float) -> list[str]:
    """The findings about a run of another pretext whose logged metrics end as given."""
    count = 40
    curves = {"loss": np.linspace(2, 1, count)} | {name: np.linspace(0.8, end, count) for name, end in ends.items()}
    for name, end in ends.items():
        curves[name][-10:] = end
    folder = pretrain_folder(tmp_path / "run", curves_data=curves, cases=[], pictures=[], metrics={"val/accuracy": 0.5})
    runs = read_runs([folder])
    return [f"{item.level}: {item.text}" for item in ReportData(runs).findings]


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ({"embedding_std": 0.001, "effective_rank": 5.0}, "broken: the run has collapsed: at the end of training all"),
        (
            {"embedding_std": 0.5, "effective_rank": 1.1},
            "broken: the run has collapsed: at the end of training the emb",
        ),
        (
            {"clusters_used": 1.0},
            "broken: the run has collapsed: at the end of training all volumes are in one cluster",
        ),
        ({"cluster_largest": 0.95, "clusters_used": 3.0}, "one cluster holds 95"),
        ({"restoration": 0.2, "restoration_identity": 0.1}, "caution: at the end of training restoring (0.2000) is no"),
    ],
)
def test_a_run_that_collapsed_is_called_that(
    ends: dict[str, float], words: str, pretrain_folder: Callable[..., Path], tmp_path: Path
) -> None:
    found = pretext_run(pretrain_folder, tmp_path, **ends)
    assert len(found) == 1
    assert words in found[0]


def test_a_run_that_did_not_collapse_is_left_in_peace(pretrain_folder: Callable[..., Path], tmp_path: Path) -> None:
    ends = {"embedding_std": 0.4, "effective_rank": 6.0, "clusters_used": 8.0, "cluster_largest": 0.3}
    assert not pretext_run(pretrain_folder, tmp_path, restoration=0.1, restoration_identity=0.2, **ends)


def test_collapse_on_held_out_volumes_counts_too(pretrain_folder: Callable[..., Path], tmp_path: Path) -> None:
    metrics = {"val/embedding_std": 0.002, "val/effective_rank": 4.0}
    folder = pretrain_folder(tmp_path / "run", curves_data={"loss": np.ones(9)}, cases=[], pictures=[], metrics=metrics)
    runs = read_runs([folder])
    (found,) = ReportData(runs).findings
    assert found.level == "broken"
    assert "collapsed: on held-out volumes all embeddings are nearly one" in found.text


def test_without_an_affine_head_its_map_is_the_identity(pretrain_folder: Callable[..., Path], tmp_path: Path) -> None:
    same = {"val/ncc": 0.3, "val/ncc_affine": 0.5, "val/ncc_identity": 0.5, "val/folded": 0.001}
    assert wrong_order(0.3, 0.5, 0.5, has_affine=False) is None
    assert wrong_order(0.5, 0.5, 0.5, has_affine=False) is not None
    for affine, level in ((True, ["broken"]), (False, [])):
        config = {"method": "gvsl-no-affine", "pretext": {"affine": affine}}
        found = of(pretrain_folder(tmp_path / str(affine), metrics=same, config=config))
        assert [item.level for item in found] == level
