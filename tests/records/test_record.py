import json
from dataclasses import asdict
from pathlib import Path

from gvsl.records import LoggedMetric, RunRecord, read_record, write_record


def test_a_record_of_before_metrics_were_declared_is_read(tmp_path: Path) -> None:
    record = RunRecord("pretrain", "run", 0, {}, {}, logged=[asdict(LoggedMetric("ncc", "NCC loss", "lower"))])
    path = write_record(record, tmp_path)
    assert read_record(tmp_path) == record
    values = json.loads(path.read_text(encoding="utf-8"))
    assert values.pop("logged") == [{"name": "ncc", "title": "NCC loss", "better": "lower"}]
    path.write_text(json.dumps(values), encoding="utf-8")
    assert read_record(tmp_path).logged == []
