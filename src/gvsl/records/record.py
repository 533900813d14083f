"""RunRecord: the settings, environment and results of a run, as a JSON file that the report reads. Imports no torch."""

import csv
import json
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, get_type_hints

from gvsl.errors import UserError
from gvsl.files import is_claimed, is_temporary, real_path, whole_file, write_text
from gvsl.readers import check_kind, read_json
from gvsl.settings import current_names

RECORD_NAME = "record.json"
CURVES_NAME = "curves.csv"
FORMAT = 1
MAX_MEASURE = 1e12
"""Larger numbers are none that a run measures, and their squares might overflow."""
FRACTION = re.compile(r"(dice|folded)([/_].*)?")
"""Measures of 0 to 1."""
RECORDED_PACKAGES = ("gvsl", "torch", "lightning", "monai", "numpy", "nibabel", "blosc2")


@dataclass
class RunRecord:
    """One run: its settings, environment, metrics and files. File names are relative to the record's folder."""

    kind: Literal["pretrain", "transfer"]
    name: str
    seed: int
    config: dict[str, Any]
    """The resolved settings, including defaults."""
    store: dict[str, str]
    """`name` and `hash` of the store."""
    status: Literal["running", "stopped", "finished", "failed"] = "running"
    """`stopped` is also what is read where the file says `running` but the process that wrote it is gone."""
    created: str = ""
    """Start of the run, ISO 8601 in UTC."""
    seconds: float = 0.0
    environment: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    """Summary metrics by name."""
    cases: list[dict[str, Any]] = field(default_factory=list)
    """A row for each case or pair: its `id` and its metrics."""
    labels: dict[str, str] = field(default_factory=dict)
    """Names of the structures by label value."""
    curves: str | None = None
    """A CSV file with a `step` column."""
    pictures: list[dict[str, str]] = field(default_factory=list)
    """`file` (npz), `kind` (pair, restoration, segmentation) and `title` of each picture."""
    volumes: list[dict[str, str]] = field(default_factory=list)
    """`file`, `kind` (pair, segmentation) and `title` of each volume for the viewer."""
    spacing: list[float] = field(default_factory=lambda: [1.0, 1.0, 1.0])
    """Size of a voxel of the pictures and volumes along each axis, in mm."""
    clusters: str | None = None
    """A JSON file of the features' clusters by structure; see `gvsl.transfer.feature_clusters` for its layout."""
    pretraining: dict[str, Any] = field(default_factory=dict)
    """`steps`, `seed` and `store` (a hash) of the pre-training of a transfer's weights, as far as known."""
    training: dict[str, Any] = field(default_factory=dict)
    """Of a transfer: `steps` taken, `stopped_by` (`max_steps` or `patience`), `best_step`, whose weights were kept,
    `since_best`, the number of validations after it, and, if several learning rates were tried, `learning_rate`, that
    which was kept, and `candidates`, the rate, best score, its step, the steps and what ended them of each."""
    effects: dict[str, str] = field(default_factory=dict)
    """Effects of the settings that do not decide the result: `nothing`, `extras` or `arm` (`gvsl.settings`)."""
    logged: list[dict[str, str | None]] = field(default_factory=list)
    """The metrics that the method declares: `name`, `title` and `better` ("higher", "lower" or None) of each."""
    format: int = FORMAT


RUNS, FAILED = "runs", "failed"
"""The folders of a benchmark's runs, and of the records of those that failed."""

KINDS = get_type_hints(RunRecord)
"""The type of each field."""


def utc_now() -> str:
    """Return the current time, ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def environment(device: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the hardware and the versions that a result depends on.

    Args:
        device: the compute device (`gvsl.hardware.device_facts`); none if the run failed before it had one.
    """
    found = {
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": _processor_name(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory": _memory_size(),
        **(device or {}),
    }
    for package in RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # a package that is not installed took no part in the run
    return found


def write_record(record: RunRecord, folder: Path) -> Path:
    """Write `record` as `folder`/record.json, whole or not at all, and return the file's path."""
    path = folder / RECORD_NAME
    write_text(path, json.dumps(asdict(record), indent=1, allow_nan=False, default=str) + "\n")
    return path


def read_record(folder: Path) -> RunRecord:
    """Read `folder`/record.json; settings that have been renamed since have today's names.

    A run that is recorded as running has status `stopped` if no process holds its folder (`gvsl.files.claimed`).

    Raises:
        UserError: there is none, it is not JSON, or it is not a record of this format.
    """
    path = folder / RECORD_NAME
    try:
        values = read_json(path)
    except FileNotFoundError:
        raise UserError(f"{folder} holds no {RECORD_NAME}: name the folder of a run") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read as a run's record: {error}") from None
    known = {item.name for item in fields(RunRecord)}
    required = {"kind", "name", "seed", "config", "store"}
    if not isinstance(values, dict) or not required <= values.keys() <= known:
        raise UserError(f"{path} is not a run's record: it lacks or adds fields")
    if values.get("format") != FORMAT:
        raise UserError(f"{path} has format {values.get('format')}; this gvsl reads format {FORMAT}")
    try:
        for name, value in values.items():
            check_kind(value, KINDS[name], name)
        for number, row in enumerate(values.get("cases", [])):
            _check_measures({name: value for name, value in row.items() if name != "id"}, f"cases[{number}]")
        _check_measures(values.get("metrics", {}), "metrics")
        _check_spacing(values.get("spacing", [1.0, 1.0, 1.0]))
    except ValueError as error:
        raise UserError(f"{path} is not a run's record: {error}") from None
    values["config"] = current_names(values["config"])
    values["effects"] = current_names(values.get("effects", {}))
    record = RunRecord(**values)
    if record.status == "running" and not is_claimed(folder):
        record.status = "stopped"
    return record


def _check_measures(measures: dict[str, Any], where: str) -> None:
    """Check that measured values are numbers that can be averaged, and fractions; ValueError if one isn't."""
    check_kind(measures, dict[str, float], where)
    for name, value in measures.items():
        last = name.rpartition("test/")[2].rpartition("val/")[2].removeprefix("pretrain/")
        highest = 1.0 if FRACTION.fullmatch(last) else MAX_MEASURE
        if abs(value) > highest:
            raise ValueError(f"{where}.{name[:60]} is {value:g}, out of its range")


def _check_spacing(spacing: list[float]) -> None:
    """Check that voxels have a size along three axes; ValueError if they don't."""
    if len(spacing) != 3 or not all(0 < size <= MAX_MEASURE for size in spacing):
        raise ValueError(f"spacing is {spacing}, not three sizes in mm")


def write_curves(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write a run's curves as CSV, whole or not at all: a row for each logged step, blank if a value was not logged.

    Args:
        path: the file; replaced if it exists.
        rows: each with a `step` and the values logged then; the columns are all names in order of appearance.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({name: int(v) if name == "step" else v for name, v in row.items()} for row in rows)


def find_records(folders: Iterable[Path]) -> list[tuple[Path, RunRecord]]:
    """Return all records in or below `folders`, each with its folder, sorted by folder; not of half-written folders.

    Raises:
        UserError: a folder is missing, or holds no record at any depth.
    """
    return [(folder, read_record(folder)) for folder in find_runs(folders)]


def find_runs(folders: Iterable[Path]) -> list[Path]:
    """Return the folders of all records in or below `folders`, sorted; each run once.

    A failed run of a benchmark is found in its folder `failed`, and not also in `runs`, where it can be resumed, unless
    it has finished there since.

    Raises:
        UserError: a folder is missing, or holds no record at any depth.
    """
    found: dict[Path, Path] = {}  # by their real paths, since two may lead to one run
    for folder in folders:
        paths = [path for path in sorted(folder.rglob(RECORD_NAME)) if not _unfinished(path.relative_to(folder))]
        if not paths:
            raise UserError(f"{folder} holds no {RECORD_NAME}, nor does a folder in it: name the folder of a run")
        for path in paths:
            found.setdefault(real_path(path.parent), path.parent)
    for real in [real for real in found if real.parent.name == FAILED]:
        again = real.parent.with_name(RUNS) / real.name
        if again in found:
            found.pop(real if _is_finished(again) else again)
    return sorted(found.values())


def _is_finished(folder: Path) -> bool:
    try:
        return read_record(folder).status == "finished"
    except UserError:
        return False


def _unfinished(path: Path) -> bool:
    """Return True for a file in a folder that is being written, or was when its writer was killed."""
    return any(is_temporary(part) for part in path.parts)


def _processor_name() -> str:
    """Return the name of the processor, or its architecture if the name is unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_size() -> str:
    """Return the size of the main memory."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not on every system
        return "unknown"
    return f"{size / 2**30:.1f} GiB"
