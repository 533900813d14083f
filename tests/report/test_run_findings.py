"""What the report warns of: each finding appears for its cause, and not without it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gvsl.report import write_report
from gvsl.report.data import ReportData
from gvsl.report.finding import Finding
from gvsl.report.matching import verdict_lines
from gvsl.report.runs import read_runs
from gvsl.report.summary import summary_lines

Maker = Callable[..., Path]
GOOD = {"val/ncc": 0.3, "val/ncc_affine": 0.4, "val/ncc_identity": 0.5, "val/folded": 0.001}


def of(folder: Path) -> list[Finding]:
    """The findings of the runs below a folder."""
    runs = read_runs([folder])
    return ReportData(runs).findings


def test_a_study_that_went_well_has_none(study: list[Path]) -> None:
    runs = read_runs(study)
    assert ReportData(runs).findings == []


def test_matching_no_better_than_another_pairs_field(
    tmp_path: Path, pretrain_folder: Maker, pair_rows: list[dict[str, Any]]
) -> None:
    """Half of the pairs gain and half lose as much: the interval holds 0."""
    signs = [0.1 if index % 2 else -0.1 for index in range(len(pair_rows))]
    rows = [row | {"smooth_ncc_swapped": row["smooth_ncc"] + sign} for row, sign in zip(pair_rows, signs, strict=True)]
    pretrain_folder(tmp_path, cases=rows, pictures=[])
    (finding,) = of(tmp_path)
    assert finding.level == "broken"
    assert "no better than another pair's field (NCC gain" in finding.text
    assert "--max-steps" in finding.kind


@pytest.mark.parametrize(
    ("name", "level", "words"),
    [
        (
            "smooth_ncc_blurred",
            "broken",
            "no better than blur without motion (NCC gain +0.0009 [+0.0009, +0.0009], less",
        ),
        (
            "smooth_ncc_affine_swapped",
            "caution",
            "its affine part does not align the pair: it is no better than another pair's affine part",
        ),
    ],
)
def test_a_gain_below_the_minimum_is_none(
    tmp_path: Path, pretrain_folder: Maker, pair_rows: list[dict[str, Any]], name: str, level: str, words: str
) -> None:
    own = "smooth_ncc_affine" if "affine" in name else "smooth_ncc"
    pretrain_folder(tmp_path, cases=[row | {name: row[own] + 0.0009} for row in pair_rows], pictures=[])
    (finding,) = of(tmp_path)
    assert finding.level == level
    assert words in finding.text


def test_the_affine_part_is_told_by_its_values(
    tmp_path: Path, pretrain_folder: Maker, pair_rows: list[dict[str, Any]]
) -> None:
    pretrain_folder(tmp_path / "new", cases=pair_rows, pictures=[])
    earlier = [{name: row[name] for name in row if not name.startswith("affine_rot")} for row in pair_rows]
    pretrain_folder(tmp_path / "old", cases=earlier, pictures=[])
    new, old = (verdict_lines(run)[-1] for run in read_runs([tmp_path / "new", tmp_path / "old"]))
    values = "1.250 voxels of translation, 0.050 of scaling beside 1, 0.020 of shear"
    assert new.endswith(f"mean absolute values: 3.000 degrees of rotation, {values}")
    assert old.endswith(f"mean absolute values: {values}")


def test_training_volumes_are_never_called_held_out(
    tmp_path: Path, pretrain_folder: Maker, pair_rows: list[dict[str, Any]]
) -> None:
    """A plain folder of scans has no volume in val, so that a pre-training is measured on what it was trained on."""
    metrics = {f"pretrain/{name}": pair_rows[0][name] for name in ("ncc", "ncc_identity", "dice_after")}
    metrics["pretrain/folded"] = 0.02
    pretrain_folder(tmp_path, cases=pair_rows, metrics=metrics, pictures=[], curves=None)
    texts = [finding.text for finding in of(tmp_path)]
    assert "nothing held out was measured: all its numbers are of training" in texts
    assert any("2.00 % of voxels folded on training pairs" in text for text in texts)
    data = ReportData(read_runs([tmp_path]))
    assert data.headline.startswith("On training pairs, matching beats")
    page = write_report([tmp_path], tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"{len(pair_rows)} training pairs" in page
    said = page.replace("nothing held out was measured", "") + " ".join(summary_lines([tmp_path]))
    assert "held-out pair" not in said and "held-out volume" not in said


def test_few_pairs_give_no_verdict(tmp_path: Path, pretrain_folder: Maker, pair_rows: list[dict[str, Any]]) -> None:
    pretrain_folder(tmp_path, cases=pair_rows[:4], pictures=[])
    (finding,) = of(tmp_path)
    assert finding.level == "caution"
    assert "4 held-out pairs, too few for an interval" in finding.text


def test_records_without_controls_name_the_command_that_measures_them(
    tmp_path: Path, pretrain_folder: Maker, pair_rows: list[dict[str, Any]]
) -> None:
    rows = [{name: value for name, value in row.items() if "smooth" not in name} for row in pair_rows]
    pretrain_folder(tmp_path, cases=rows, pictures=[])
    (finding,) = of(tmp_path)
    assert finding.level == "caution"
    assert f"gvsl pretrain STORE --out {tmp_path} --resume" in finding.text


@pytest.mark.parametrize(
    ("metrics", "level", "words"),
    [
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
        (
            ("gradient_norm_affine", lambda curves: 0 * curves["ncc"]),
            "broken",
            "the affine part never had a gradient, and was not trained: --precision fp32, or a lower --learning-rate",
        ),
        (
            ("smoothness", lambda curves: np.where(np.arange(200) == 7, np.nan, 1)),
            "broken",
            "1 logged value of smoothness not finite: a lower --learning-rate, or --precision fp32",
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


@pytest.mark.parametrize(
    ("part", "weight"),
    [("restoration", "restoration_weight"), ("deformable", "ncc_weight"), ("affine", "affine_ncc_weight")],
)
def test_a_part_whose_loss_has_no_weight_names_the_weight(
    tmp_path: Path, pretrain_folder: Maker, part: str, weight: str
) -> None:
    for value, option in ((0, f"raise --pretext.{weight.replace('_', '-')} from 0"), (1, "--precision fp32")):
        curves = {"ncc": np.full(9, 0.3), f"gradient_norm_{part}": np.zeros(9)}
        config = {"method": "gvsl", "pretext": {weight: value}}
        folder = pretrain_folder(tmp_path / str(value), curves_data=curves, config=config, pictures=[])
        (finding,) = of(folder)
        assert (finding.level, option in finding.text, option in finding.kind) == ("broken", True, True)


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
        "gvsl (−0.388 DSC) is not ahead of runs on random features",
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


def test_without_an_affine_head_there_is_no_verdict_on_it(
    tmp_path: Path, pretrain_folder: Maker, pair_rows: list[dict[str, Any]]
) -> None:
    rows = [row | {"smooth_ncc_affine_swapped": row["smooth_ncc_affine"]} for row in pair_rows]
    for affine, level in ((True, ["caution"]), (False, [])):
        config = {"method": "gvsl-no-affine", "pretext": {"affine": affine}}
        found = of(pretrain_folder(tmp_path / str(affine), cases=rows, config=config))
        assert [item.level for item in found] == level


@pytest.mark.parametrize(
    ("config", "chance", "learnt", "words"),
    [
        (
            {"method": "deepcluster", "pretext": {"clusters": 8}},
            {"accuracy": 0.13, "loss": 2.08},
            {"accuracy": 0.4, "loss": 1.5},
            "cluster classification is at chance (accuracy 0.130, chance 0.125, loss 2.080, chance 2.079)",
        ),
        ({"method": "rotation"}, {"accuracy": 0.12}, {"accuracy": 0.5}, "(accuracy 0.120, chance 0.100)"),
        ({"method": "simsiam"}, {"loss": -0.07}, {"loss": -0.5}, "(loss −0.070, chance 0.000)"),
        (
            {"method": "simclr", "data": {"batch_size": 2}},
            {"twin_accuracy": 0.15},
            {"twin_accuracy": 0.5},
            "instance retrieval is at chance (accuracy 0.150, chance 0.143)",
        ),
    ],
)
def test_a_pretext_at_chance(
    tmp_path: Path,
    pretrain_folder: Maker,
    config: dict[str, Any],
    chance: dict[str, float],
    learnt: dict[str, float],
    words: str,
) -> None:
    for name, ends in (("chance", chance), ("learnt", learnt)):
        curves = {metric: np.full(20, value) for metric, value in ends.items()}
        metrics = {"val/effective_rank": 5.0}
        pretrain_folder(
            tmp_path / name, curves_data=curves, cases=[], pictures=[], metrics=metrics, config=config, name=name
        )
    (finding,) = of(tmp_path)
    assert (finding.level, finding.subject) == ("broken", "chance")
    assert words in finding.text
    assert "--batch-size" in finding.kind


def test_retrieval_on_held_out_volumes_has_its_own_chance_level(tmp_path: Path, pretrain_folder: Maker) -> None:
    metrics = {"val/twin_accuracy": 0.1, "val/twin_chance": 0.053}
    pretrain_folder(tmp_path, curves_data={"other": np.ones(9)}, cases=[], pictures=[], metrics=metrics)
    (finding,) = of(tmp_path)
    assert "on held-out volumes instance retrieval is at chance (accuracy 0.100, chance 0.053)" in finding.text


def test_clusters_drawn_anew_at_each_pass(tmp_path: Path, pretrain_folder: Maker) -> None:
    curves = {"nmi": np.full(9, 0.05)}
    pretrain_folder(tmp_path, curves_data=curves, cases=[], pictures=[], metrics={"val/effective_rank": 5.0})
    (finding,) = of(tmp_path)
    assert "(NMI 0.050)" in finding.text
    assert "--pretext.clusters" in finding.kind


@pytest.mark.parametrize(
    ("scores", "rising"),
    [
        (np.linspace(0.5, 0.7, 12), True),
        (np.r_[np.linspace(0.5, 0.7, 6), np.full(6, 0.7)], False),
        (np.r_[np.linspace(0.5, 0.7, 8), [0.7, 0.71, 0.69, 0.68]], False),
        (0.7 - 0.2 * np.exp(-np.arange(12.0)), False),
        (0.7 + 0.02 * np.array([0, 1, -1, 1, 0, -1, 1, -1, 0, 1, -1, 1.5]), False),
    ],
)
def test_a_probe_that_was_still_rising(
    tmp_path: Path, transfer_folder: Maker, scores: NDArray[np.float64], rising: bool
) -> None:
    folder = transfer_folder(tmp_path, 0, True, pictures=[])
    lines = ["step,val_dice", *(f"{5 * (index + 1)},{score}" for index, score in enumerate(scores))]
    (folder / "curves.csv").write_text("\n".join(lines), encoding="utf-8")
    found = [item for item in of(tmp_path) if "rising" in item.kind]
    assert bool(found) == rising
    if rising:
        assert "best at step 60 of 60): more --max-steps" in found[0].text


def test_a_probe_that_was_stopped_while_it_rose_names_what_stopped_it(tmp_path: Path, transfer_folder: Maker) -> None:
    folder = transfer_folder(tmp_path, 0, True, pictures=[], training={"steps": 60, "stopped_by": "patience"})
    lines = ["step,val_dice", *(f"{5 * index},{0.5 + 0.02 * index}" for index in range(1, 13))]
    (folder / "curves.csv").write_text("\n".join(lines), encoding="utf-8")
    (found,) = (item for item in of(tmp_path) if "rising" in item.kind)
    assert found.text.endswith("a larger --patience") and found.kind.endswith("a larger --patience")
