"""Carried labels and students against the same arm without, from records alone."""

import re
import zlib
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from gvsl.records import RunRecord, write_record
from gvsl.report.data import read_report
from gvsl.report.label_charts import LabelChart, label_charts
from gvsl.report.runs import read_runs
from gvsl.report.sections.carried_tables import carried_tables, gaps, paired_curves

GAINS = {1: (0.10, -0.02, 0.04), 5: (0.01, 0.02)}
"""By how much the student is ahead in each draw."""
STARTS = {"gvsl": "affine", "scratch": "none"}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run of a mode that scores so much, on the cases that its draw gives."""

    def written(mode: str, labels: int, draw: int, score: float, method: str = "scratch", **more: Any) -> Path:
        config: dict[str, Any] = {"mode": mode, "method": method, "labels": labels, "task": "segmentation"}
        config |= {"weights": "scratch" if method == "scratch" else f"runs/{method}"}
        config |= {"train_cases": [f"t{draw}-{number}" for number in range(labels)]}
        config |= {"max_steps": 60} if mode != "carried" else {"val_cases": 1, "test_cases": 2, "carry_failed": ["a"]}
        metrics = {"test/dice": score} | ({"seconds_per_volume": 0.5} if mode == "carried" else {})
        name = f"{mode}-{method}-{labels}-{draw}-{zlib.crc32(repr(more).encode())}"
        record = RunRecord(
            kind="transfer",
            name=name,
            seed=draw,
            config=config | more,
            store={"name": "hippocampus", "hash": "1"},
            status="finished",
            metrics=metrics,
            cases=[{"id": "a", "dice": score - 0.1}, {"id": "b", "dice": score + 0.1}],
        )
        write_record(record, tmp_path / "runs" / name)
        return tmp_path / "runs"

    return written


@pytest.fixture
def runs(write: Callable[..., Path]) -> Path:
    carrying = {"refine": 40, "voting": "local"}
    for labels, gains in GAINS.items():
        for draw, gain in enumerate(gains):
            base = 0.5 + 0.01 * draw
            write("scratch", labels, draw, base, augment={"rate": 1.0})
            write("scratch", labels, draw, 0.8, augment={"rate": 0.0})  # which is no baseline of an augmented student
            student = {"augment": {"rate": 1.0}, "carry": "gvsl", "carry_steps": 800}
            write("scratch", labels, draw, base + gain, **student, carrying=carrying)
            for method, start in STARTS.items():
                write("carried", labels, draw, 0.7, method, carrying={**carrying, "start": start})
    return write("scratch", 1, 7, 0.9, augment={"rate": 1.0}, carry="gvsl", carry_steps=800, carrying=carrying)


@pytest.fixture
def chart(runs: Path) -> LabelChart:
    (found,) = label_charts(read_runs([runs]))
    return found


def cells(html: str) -> list[str]:
    return [unescape(re.sub(r"<[^>]+>", "", cell)) for cell in re.findall(r"<td[^>]*>(.*?)</td>", html, re.DOTALL)]


def test_a_student_is_paired_with_the_run_that_differs_in_carried_labels_alone(chart: LabelChart) -> None:
    found = dict(paired_curves(chart))
    (name,) = [name for name in found if name.startswith("student")]
    assert name == "student, trained from scratch, against trained from scratch (augment.rate 1.0)"
    for labels, gains in GAINS.items():  # the student of draw 7 has no counterpart
        assert gaps(found[name][labels]).tolist() == pytest.approx(list(gains))


def test_carried_labels_are_paired_with_those_from_no_network(chart: LabelChart) -> None:
    (name,) = [name for name, _ in paired_curves(chart) if name.startswith("carried")]
    assert name == "carried by gvsl, against carried from no network"


def test_other_labelled_cases_are_never_compared(runs: Path, write: Callable[..., Path]) -> None:
    write("scratch", 1, 7, 0.5, augment={"rate": 1.0}, train_cases=["another"])
    (chart,) = label_charts(read_runs([runs]))
    ((_, found),) = [item for item in paired_curves(chart) if item[0].startswith("student")]
    assert [run.record.seed for run in found[1].mine] == [0, 1, 2]


def test_the_tables_say_it(chart: LabelChart) -> None:
    gains, matching = (cells(found.code) for found in carried_tables(chart))
    student = gains[gains.index("student, trained from scratch, against trained from scratch (augment.rate 1.0)") + 1 :]
    assert student[0].startswith("+0.040 range \N{MINUS SIGN}0.020 to +0.100, ahead in 2 of 3 draws")
    assert student[1].startswith("+0.015 range +0.010 to +0.020, ahead in 2 of 2 draws")
    assert "0.50 s 3 of 9 failed, seeds 0, 1, 2" in matching


def test_an_interval_over_draws_needs_five_and_is_student_s(
    chart: LabelChart, runs: Path, write: Callable[..., Path]
) -> None:
    carrying = {"refine": 40, "voting": "local"}
    for draw, gain in ((3, 0.0), (4, 0.08)):
        write("scratch", 1, draw, 0.5, augment={"rate": 1.0})
        more = {"augment": {"rate": 1.0}, "carry": "gvsl", "carry_steps": 800}
        write("scratch", 1, draw, 0.5 + gain, **more, carrying=carrying)
    (chart,) = label_charts(read_runs([runs]))
    text = " ".join(cells(carried_tables(chart)[0].code))
    assert "+0.040 95 % \N{MINUS SIGN}0.023 to +0.103, ahead in 3 of 5 draws" in text  # 0.04 -+ 2.776 * 0.0228


def test_table_1_is_of_labels_alone_and_no_protocol_is_mixed_with_another(runs: Path) -> None:
    data = read_report([runs])
    assert {column.mode for column in data.table1.columns} == {"finetune"}
    assert {group.protocol for group in data.groups} == {"finetune", "student", "carried"}
    assert all(set(group.arms) == {"random", "gvsl"} for group in data.groups if group.protocol == "carried")
    assert not [found for found in data.findings if "carrying.start" in found.text]


def test_labels_of_scored_images_are_told_wherever_an_arm_is_named(runs: Path, write: Callable[..., Path]) -> None:
    carrying = {"refine": 40, "voting": "local", "transductive": True}
    write("scratch", 1, 0, 0.9, augment={"rate": 1.0}, carry="gvsl", carry_steps=800, carrying=carrying)
    (chart,) = label_charts(read_runs([runs]))
    assert "transductive student, trained from scratch" in {curve.name for curve in chart.curves}
