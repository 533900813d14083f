"""RunRecord: what a run was, on what, and what came out, as one JSON file that the report reads. Imports no torch."""

import csv
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from gvsl.errors import UserError
from gvsl.files import whole_file, write_text
from gvsl.settings import current_names

RECORD_NAME = "record.json"
CURVES_NAME = "curves.csv"
FORMAT = 1
RECORDED_PACKAGES = ("gvsl", "torch", "lightning", "monai", "numpy", "nibabel", "blosc2")


@dataclass
class RunRecord:
    """One run: its settings, surroundings, figures and files. File names are relative to the record's folder."""

    kind: Literal["pretrain", "transfer"]
    name: str
    seed: int
    config: dict[str, Any]
    """The resolved settings, every default written out."""
    store: dict[str, str]
    """The store the run used: `name` and `hash`."""
    status: Literal["running", "finished", "failed"] = "running"
    created: str = ""
    """When the run began, ISO 8601 in UTC."""
    seconds: float = 0.0
    environment: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    """The run's summary figures by name."""
    cases: list[dict[str, Any]] = field(default_factory=list)
    """One row a case or a pair: its `id` and its figures."""
    labels: dict[str, str] = field(default_factory=dict)
    """Label value to the structure's name."""
    curves: str | None = None
    """A CSV file with a `step` column."""
    pictures: list[dict[str, str]] = field(default_factory=list)
    """`file` (npz), `kind` (pair, restoration, segmentation) and `title` of each picture."""
    volumes: list[dict[str, str]] = field(default_factory=list)
    """The same of whole volumes for the viewer (pair, segmentation)."""
    clusters: str | None = None
    """A JSON file of how the features cluster by structure (`gvsl.transfer.feature_clusters` has its layout)."""
    pretraining: dict[str, Any] = field(default_factory=dict)
    """Of a transfer from weights: the `steps`, `seed` and `store` (a hash) of their training, as far as they tell."""
    effects: dict[str, str] = field(default_factory=dict)
    """Of settings that do not decide the result: `nothing`, `extras` or `arm` (`gvsl.settings`), by dotted name."""
    logged: list[dict[str, str | None]] = field(default_factory=list)
    """The metrics that the method declares: `name`, `title` and `better` ("higher", "lower" or None) of each."""
    format: int = FORMAT


def utc_now() -> str:
    """The time now, ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def environment(device: Mapping[str, str] | None = None) -> dict[str, str]:
    """The hardware and the versions that a figure depends on.

    Args:
        device: what was computed on, as `gvsl.hardware.device_facts` tells it; nothing where no run got so far.
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

    Raises:
        UserError: there is none, it is not JSON, or it is not a record of this format.
    """
    path = folder / RECORD_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} holds no {RECORD_NAME}: name the folder of a run") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} can't be read as a run's record: {error}") from None
    known = {item.name for item in fields(RunRecord)}
    required = {"kind", "name", "seed", "config", "store"}
    if not isinstance(values, dict) or not required <= values.keys() <= known:
        raise UserError(f"{path} is not a run's record: it lacks or adds fields")
    if values.get("format") != FORMAT:
        raise UserError(f"{path} has format {values.get('format')}; this gvsl reads format {FORMAT}")
    values["config"] = current_names(values["config"])
    values["effects"] = current_names(values.get("effects", {}))
    return RunRecord(**values)


def write_curves(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write a run's curves as CSV, whole or not at all: one row a logged step, blank where a value was not logged.

    Args:
        path: the file, which is replaced if it is there.
        rows: each with a `step` and the values logged then; the columns are all names in order of appearance.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({name: int(v) if name == "step" else v for name, v in row.items()} for row in rows)


def find_records(folders: Iterable[Path]) -> list[tuple[Path, RunRecord]]:
    """All records in or below `folders`, each with its folder, sorted by folder.

    Raises:
        UserError: a folder is missing, or holds no record at any depth.
    """
    found: dict[Path, RunRecord] = {}
    for folder in folders:
        paths = sorted(folder.rglob(RECORD_NAME)) if folder.is_dir() else []
        if not paths:
            raise UserError(f"{folder} holds no {RECORD_NAME}, nor does a folder in it: name the folder of a run")
        found.update({path.parent: read_record(path.parent) for path in paths})
    return sorted(found.items())


def _processor_name() -> str:
    """The processor's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_size() -> str:
    """The machine's memory."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not on every system
        return "unknown"
    return f"{size / 2**30:.1f} GiB"
