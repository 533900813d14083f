"""The table of every structure, from records alone."""

import re
from pathlib import Path

from gvsl.records import RunRecord, write_record
from gvsl.report import grouping
from gvsl.report.figures.dots import NAMED_AT_MOST
from gvsl.report.runs import read_runs
from gvsl.report.sections.dice import dice


def heads(group: grouping.Group) -> list[str]:
    html = dice([group])
    assert html is not None
    return re.findall(r"<th(?: [^>]*)?>(.*?)</th>", html.code)


def write(folder: Path, mode: str, method: str, score: float) -> None:
    record = RunRecord(
        kind="transfer",
        name=f"{mode}-{method}",
        seed=0,
        config={"mode": mode, "method": method, "weights": "scratch" if method == "scratch" else method},
        store={"name": "hippocampus", "hash": "1"},
        status="finished",
        metrics={"test/dice": score},
        cases=[{"id": case, "dice": score, "dice/body": score} for case in ("a", "b")],
    )
    write_record(record, folder / record.name)


def test_columns_are_named_by_what_was_done(tmp_path: Path) -> None:
    for mode in ("linear", "carried"):
        for method in ("scratch", "gvsl", "inpainting"):
            write(tmp_path, mode, method, 0.5)
    shown = {group.protocol: heads(group) for group in grouping.groups(read_runs([tmp_path]))}
    linear, carried = shown["linear"], shown["carried"]
    assert linear[:3] == ["Structure", "linear on random features", "linear on gvsl features"]
    assert linear[4::2] == ["gvsl − random", "inpainting − random"]
    assert carried[:3] == ["Structure", "carried from no network", "carried by gvsl"]
    assert carried[4::2] == ["gvsl − no network", "inpainting − no network"]


def test_many_arms_have_a_row_each(tmp_path: Path) -> None:
    for method in ("scratch", *(f"method-{number}" for number in range(NAMED_AT_MOST))):
        write(tmp_path, "finetune", method, 0.5)
    (group,) = grouping.groups(read_runs([tmp_path]))
    assert heads(group)[:2] == ["Arm", "Seeds"]
    html = dice([group])
    assert html is not None
    assert "fine-tuned from method-0 weights" in html.code
