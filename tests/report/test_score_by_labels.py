"""The chart of scores by the number of labels, from records alone."""

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from gvsl.report import write_report
from gvsl.report.label_charts import label_charts
from gvsl.report.runs import read_runs
from gvsl.report.sections.score_by_labels import score_by_labels

Maker = Callable[..., Path]
SCORES = {
    ("gvsl", "linear", 5): (0.50, 0.60),
    ("gvsl", "linear", 10): (0.70, 0.74),
    ("scratch", "linear", 5): (0.40, 0.42),
    ("scratch", "linear", 10): (0.44, 0.50),
    ("scratch", "scratch", 5): (0.65, 0.67),
    ("scratch", "scratch", 10): (0.80, 0.82),
    ("simclr", "linear", 5): (0.30, 0.32),  # one number of labels alone: no line
}


@pytest.fixture
def few(tmp_path: Path, transfer_folder: Maker) -> Callable[..., Path]:
    """Writes a run of a method, a mode, a number of labels and a seed that scores so much."""

    def write(method: str, mode: str, count: int | None, seed: int, score: float, **more: Any) -> Path:
        config = {"mode": mode, "method": method, "labels": count, "max_steps": 60, "task": "segmentation"}
        config |= {"weights": "scratch" if method == "scratch" else f"runs/{method}-{seed}", **more}
        name = f"{method}-{mode}-{count}-{seed}-{'-'.join(map(str, more))}"
        metrics = {"test/dice": score}
        return transfer_folder(tmp_path / "runs" / name, seed, True, name=name, config=config, metrics=metrics)

    return write


@pytest.fixture
def runs(few: Callable[..., Path], tmp_path: Path) -> Path:
    for (method, mode, count), scores in SCORES.items():
        for seed, score in enumerate(scores):
            few(method, mode, count, seed, score)
    return tmp_path / "runs"


def cells(html: str, name: str) -> list[str]:
    row = next(row for row in re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL) if f">{name}</td>" in row)
    return [unescape(re.sub(r"<[^>]+>", "", cell)) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)]


def test_a_line_is_a_method_in_a_mode_with_several_numbers(runs: Path) -> None:
    (chart,) = label_charts(read_runs([runs]))
    assert (chart.store, chart.score) == ("hippocampus", "DSC")
    assert {curve.name: [point.labels for point in curve.points] for curve in chart.curves} == {
        "linear on random features": [5, 10],
        "linear on gvsl features": [5, 10],
        "trained from scratch": [5, 10],
    }
    means = {curve.name: [point.mean for point in curve.points] for curve in chart.curves}
    assert means["linear on gvsl features"] == pytest.approx([0.55, 0.72])


def test_all_cases_end_a_line_and_other_weights_and_settings_do_not_mix(runs: Path, few: Callable[..., Path]) -> None:
    ids = [f"s{number}" for number in range(20)]
    few("gvsl", "linear", None, 0, 0.78, train_cases=ids)
    few("gvsl", "linear", None, 0, 0.10, train_cases=ids, weights="runs/gvsl-of-an-ablation")
    few("gvsl", "linear", 5, 0, 0.11, max_steps=9)
    (chart,) = label_charts(read_runs([runs]))
    curve = next(curve for curve in chart.curves if curve.name == "linear on gvsl features")
    assert [(point.labels, len(point.runs)) for point in curve.points] == [(5, 2), (10, 2), (20, 1)]
    assert curve.points[-1].mean == 0.78


def test_curves_of_other_settings_are_separate_and_an_earlier_record_has_the_value_of_its_time(
    runs: Path, few: Callable[..., Path]
) -> None:
    few("gvsl", "linear", 20, 0, 0.78)
    for count in (5, 10):
        for seed in (0, 1):
            few("gvsl", "linear", count, seed, SCORES["gvsl", "linear", count][seed], augmentation="none")
    (chart,) = label_charts(read_runs([runs]))
    (curve,) = [curve for curve in chart.curves if curve.arm == "gvsl"]
    assert (curve.name, [len(point.runs) for point in curve.points]) == ("linear on gvsl features", [4, 4, 1])
    assert [point.mean for point in curve.points] == pytest.approx([0.55, 0.72, 0.78])
    for count in (5, 10):
        few("gvsl", "linear", count, 2, 0.9, augmentation="both")
    (chart,) = label_charts(read_runs([runs]))
    assert sorted(curve.name for curve in chart.curves if curve.arm == "gvsl") == [
        "linear on gvsl features (augment.rate 0.0)",
        "linear on gvsl features (augment.rate both)",
    ]


@pytest.mark.slow
def test_the_section_says_what_the_records_do(runs: Path, tmp_path: Path) -> None:
    html = score_by_labels(read_runs([runs]))
    assert html is not None
    assert cells(html.code, "linear on gvsl features") == [
        "linear on gvsl features",
        "0.550 0.500 to 0.600, seeds 0, 1",
        "0.720 0.700 to 0.740, seeds 0, 1",
    ]
    (chart,) = re.findall(r"<svg[^>]*role=\"img\".*?</svg>", html.code, re.DOTALL)
    # a band and a line for each of the three, named, with an axis of the two numbers
    assert sorted(re.findall(r'class="series s(\d)"', chart)) == ["0", "0", "1", "1", "2", "2"]
    assert "labelled cases" in chart
    assert "test DSC" in chart
    text = write_report([runs], tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<section id="labels">' in text
    assert 'href="#labels"' in text


def test_where_no_run_draws_labels_there_is_no_section(study: list[Path]) -> None:
    assert score_by_labels(read_runs(study)) is None
