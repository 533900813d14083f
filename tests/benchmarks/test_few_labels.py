from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from gvsl.propagation import Atlas
from gvsl.propagation.carry import Warped, labels_by
from gvsl.report.label_charts import label_charts
from gvsl.report.runs import read_runs


def rows() -> list[dict[str, Any]]:
    """One way from none, one from a network that gains 0.1 and 0.3 in two draws of a case and nothing in another."""
    none = {"1 0 alone": {"a": 0.5, "b": 0.6}, "1 1 alone": {"a": 0.4, "b": 0.7}}
    network = {"1 0 alone": {"a": 0.6, "b": 0.6}, "1 1 alone": {"a": 0.7, "b": 0.7}}
    base = {"steps": 10, "seconds": 0.5}
    return [
        {"name": "none, 10 steps", "start": "none", "seed": None, "scores": none, **base},
        {"name": "affine, 10 steps", "start": "affine", "seed": 0, "scores": network, **base},
    ]


def test_gains_are_means_over_draws_and_cases(few_labels: ModuleType) -> None:
    line = few_labels.gains(rows()).splitlines()[-1]
    assert line == "| affine, 10 steps | 0 | 1 | +0.1000 | too few cases | 2 of 2 |"


def test_the_table_has_the_mean_and_the_spread_over_draws(few_labels: ModuleType) -> None:
    lines = few_labels.table(rows()).splitlines()
    assert lines[0] == "| | seed | s | 1 label |"
    assert lines[3] == "| affine, 10 steps | 0 | 0.50 | 0.650 (0.600 to 0.700) |"


def test_every_draw_and_rule_is_scored_and_an_atlas_is_matched_once(few_labels: ModuleType) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 1, 8, 8, 8, generator=generator)
    truth = (image > 0.5).long()
    atlases = {name: Atlas(name, image, wrong, 2) for name, wrong in (("a", truth), ("b", truth), ("c", 1 - truth))}
    matched = []

    def carry(atlas: Atlas, target: Tensor) -> Warped:
        matched.append(atlas.id)
        return labels_by(torch.zeros(1, 3, 8, 8, 8), atlas, atlas.image, (8, 8, 8))

    way = few_labels.Way("same", carry, "none", 0)
    draws = {(1, 0): ["a"], (1, 1): ["c"], (3, 0): ["a", "b", "c"]}
    scores = few_labels.measure(way, draws, atlases, {"t": (image, truth)})["scores"]
    assert sorted(matched) == ["a", "b", "c"]
    assert scores["1 0 alone"] == {"t": 1.0}
    assert scores["1 1 alone"] == {"t": 0.0}
    assert scores["3 0 majority"] == {"t": 1.0}
    assert set(scores) == {"1 0 alone", "1 1 alone", *(f"3 0 {rule}" for rule in ("joint", "local", "majority"))}


def test_the_report_draws_its_records(few_labels: ModuleType, tmp_path: Path) -> None:
    draws = {"1 0": ["a"], "1 1": ["b"]}
    facts = {"draws": draws, "store": {"name": "s", "hash": "1"}, "created": "", "environment": {}}
    none, network = rows()
    ants = {**none, "scores": {key: dict.fromkeys(found, 0.3) for key, found in none["scores"].items()}}
    for row, way in (
        (none, few_labels.Way("", None, "none", 10)),
        (network, few_labels.Way("", None, "affine", 10, 0, "gvsl", "runs/gvsl")),
        (ants, few_labels.Way("", None, "ants-syn", 0, method="ants-syn", weights="ants-syn")),
    ):
        few_labels.write_records(way, row, facts, tmp_path)
    (chart,) = label_charts(read_runs([tmp_path]))
    local = {curve.arm: curve.points for curve in chart.curves if "joint" not in curve.name and "maj" not in curve.name}
    assert {arm: [round(point.mean, 9) for point in points] for arm, points in local.items()} == {
        "random": [0.55],
        "gvsl": [0.65],
        "ants-syn": [0.3],
    }
