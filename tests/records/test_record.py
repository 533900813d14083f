import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from gvsl.errors import UserError
from gvsl.files import claimed
from gvsl.records import LoggedMetric, RunRecord, find_records, find_runs, read_record, write_record


def test_a_record_of_before_metrics_were_declared_is_read(tmp_path: Path) -> None:
    record = RunRecord(
        "pretrain", "run", 0, {}, {}, "finished", logged=[asdict(LoggedMetric("ncc", "NCC loss", "lower"))]
    )
    path = write_record(record, tmp_path)
    assert read_record(tmp_path) == record
    values = json.loads(path.read_text(encoding="utf-8"))
    assert values.pop("logged") == [{"name": "ncc", "title": "NCC loss", "better": "lower"}]
    path.write_text(json.dumps(values), encoding="utf-8")
    assert read_record(tmp_path).logged == []


def test_a_running_run_is_told_from_one_whose_process_is_gone(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_record(RunRecord("pretrain", "run", 0, {}, {}), run)
    with claimed(run, "test"):
        assert read_record(run).status == "running"
    assert read_record(run).status == "stopped"


def test_half_written_folders_are_not_counted(tmp_path: Path) -> None:
    for name in ("run", ".run.0123abcd", ".gvsl-0123abcd-89abcdef", "more/.gvsl-1/deep", ".hidden/run"):
        write_record(RunRecord("pretrain", "run", 0, {}, {}), tmp_path / name)
    found = [str(folder.relative_to(tmp_path)) for folder, _ in find_records([tmp_path])]
    assert found == [".hidden/run", "run"]
    with pytest.raises(UserError, match="holds no record"):
        find_records([tmp_path / "more"])


def test_a_run_is_found_once_by_whatever_paths_and_a_failed_one_not_where_it_can_be_resumed(tmp_path: Path) -> None:
    for name in ("runs/a", "runs/b", "failed/b"):
        write_record(RunRecord("pretrain", "run", 0, {}, {}, "failed"), tmp_path / name)
    (tmp_path / "link").symlink_to(tmp_path / "runs")
    found = find_runs([tmp_path, tmp_path / "runs", tmp_path / "link"])
    assert found == [tmp_path / "failed" / "b", tmp_path / "runs" / "a"]
    write_record(RunRecord("pretrain", "run", 0, {}, {}, "finished"), tmp_path / "runs" / "b")
    assert find_runs([tmp_path]) == [tmp_path / "runs" / "a", tmp_path / "runs" / "b"]


@pytest.mark.parametrize("spacing", [[1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 1.0, -2.0], [1.0, 1.0, 1e300], "1 mm"])
def test_a_voxel_has_three_sizes(spacing: object, tmp_path: Path) -> None:
    path = write_record(RunRecord("pretrain", "run", 0, {}, {}, spacing=[0.5, 1.0, 3.0]), tmp_path)
    assert read_record(tmp_path).spacing == [0.5, 1.0, 3.0]
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(values | {"spacing": spacing}), encoding="utf-8")
    with pytest.raises(UserError, match="spacing"):
        read_record(tmp_path)


def test_names_that_are_no_valid_unicode_are_read_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"run\xff")
    write_record(RunRecord("pretrain", name, 0, {"weights": f"runs/{name}"}, {"name": name}), tmp_path)
    found = read_record(tmp_path)
    assert (found.name, found.config, found.store) == (name, {"weights": f"runs/{name}"}, {"name": name})
