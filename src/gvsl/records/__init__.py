"""What a run leaves for the report: its record, pictures and volumes. Imports no torch."""

from gvsl.records.metrics import LoggedMetric
from gvsl.records.record import (
    CURVES_NAME,
    FAILED,
    RECORD_NAME,
    RUNS,
    RunRecord,
    environment,
    find_records,
    find_runs,
    read_record,
    utc_now,
    write_curves,
    write_record,
)

__all__ = [
    "CURVES_NAME",
    "FAILED",
    "RECORD_NAME",
    "RUNS",
    "LoggedMetric",
    "RunRecord",
    "environment",
    "find_records",
    "find_runs",
    "read_record",
    "utc_now",
    "write_curves",
    "write_record",
]
