"""Readers of run folders: the record, and the curves, pictures, volumes and clusters beside it."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar

import numpy as np

from gvsl.errors import UserError
from gvsl.files import real_path
from gvsl.readers import check_kind, read_bytes
from gvsl.records import RunRecord, find_runs, read_record
from gvsl.report.feature_clusters import FeatureClusters, read_feature_clusters
from gvsl.report.run_arrays import MAX_BYTES, Array, Picture, Volume, read_picture, read_volume

TRANSFER_SETTINGS = ("mode", "weights", "method")
LABEL_VALUE = re.compile(r"-?[0-9]{1,9}")
Example = TypeVar("Example", Picture, Volume)


@dataclass(frozen=True)
class BrokenRun:
    """A run of which the record, or a file beside it, can't be read; it counts for nothing."""

    folder: Path
    reason: str
    """With the file's name."""


def read_runs(folders: Iterable[Path], broken: list[BrokenRun] | None = None) -> list["Run"]:
    """Read every run in or below `folders`, sorted by folder.

    A record may be without the files that it names; `Run.missing` lists those.

    Args:
        folders: with runs at any depth.
        broken: takes the runs that can't be read; without it, the first of them is an error.

    Raises:
        UserError: a folder holds no record; or a record or a file beside it is broken, and there is no `broken` or no
            other run.
    """
    found: list[Run] = []
    failures: list[BrokenRun] = []
    for folder in find_runs(folders):
        try:
            found.append(_read_run(folder))
        except UserError as error:
            if broken is None:
                raise
            failures.append(BrokenRun(folder, str(error)))
    if broken is not None:
        broken += failures
    if failures and not found:
        raise UserError(failures[0].reason)
    labels = _labels([run.folder for run in found], [run.record.name for run in found])
    stores = store_names([run.record for run in found])
    return [replace(run, label=label, store=store) for run, label, store in zip(found, labels, stores, strict=True)]


def read_run(folder: Path) -> "Run":
    """Read the run in `folder` alone, not those below it.

    Raises:
        UserError: there is none, or its record or a file beside it is broken.
    """
    run = _read_run(folder)
    return replace(run, label=run.record.name, store=run.record.store.get("name", ""))


def read_curves(path: Path) -> dict[str, "Curve"]:
    """Read a CSV file with a `step` column into a curve for each other column; blank cells were not logged.

    Raises:
        UserError: the file is missing, or is not such a table of numbers.
    """
    try:
        rows = list(csv.reader(io.StringIO(read_bytes(path).decode("utf-8-sig"))))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} can't be read as a table of curves: {error}") from None
    if not rows or "step" not in rows[0] or len(set(rows[0])) != len(rows[0]):
        raise UserError(f"{path} is not a table of curves: its first line must name its columns, `step` among them")
    header = rows[0]
    table = np.full((len(rows) - 1, len(header)), np.nan)
    logged = np.zeros(table.shape, dtype=bool)
    for line, row in enumerate(rows[1:]):
        if len(row) != len(header):
            raise UserError(f"{path}, line {line + 2}: {len(row)} cells where the first line has {len(header)}")
        for column, cell in enumerate(row):
            if not cell.strip():
                continue
            try:
                table[line, column] = float(cell)
            except ValueError:
                raise UserError(f"{path}, line {line + 2}: {cell[:40]!r} is not a number") from None
            logged[line, column] = True
    table[np.isinf(table)] = np.nan
    steps = table[:, header.index("step")]
    if not np.isfinite(steps).all():
        raise UserError(f"{path} has a row without a step")
    return {
        name: Curve(steps[logged[:, column]], table[logged[:, column], column])
        for column, name in enumerate(header)
        if name != "step" and logged[:, column].any()
    }


@dataclass(frozen=True)
class Curve:
    """One logged metric over the steps; both (N,), without blanks."""

    steps: Array
    values: Array

    def finite(self) -> "Curve":
        """Return the curve without values that are not finite."""
        finite = np.isfinite(self.values)
        return Curve(self.steps[finite], self.values[finite])


@dataclass(frozen=True)
class Run:
    """A run as the report uses it."""

    folder: Path
    label: str
    """The record's name, with the folder if the name alone is not unique."""
    store: str
    """The store's name, with the beginning of its hash if another store has the same name."""
    record: RunRecord
    curves: dict[str, Curve]
    pictures: list[Picture]
    volumes: list[Volume]
    clusters: FeatureClusters | None = None
    missing: tuple[str, ...] = ()
    """The kinds of files that the record names and that are missing: `curves`, `pictures`, `volumes`, `clusters`."""

    def pictures_of(self, kind: str) -> list[Picture]:
        """Return the pictures of one kind, in the record's order."""
        return [picture for picture in self.pictures if picture.kind == kind]


class _Pairs(TypedDict, total=False):
    batch_size: int


class _Clusters(TypedDict, total=False):
    clusters: int


class _Counts(TypedDict, total=False):
    """Settings in a record that findings and tables compute with."""

    data: _Pairs | None
    pretext: _Clusters | None
    carry_failed: list[Any] | dict[str, Any]
    val_cases: int
    test_cases: int


class _Logged(TypedDict):
    """A metric that a record's method declares."""

    name: str
    title: str | None
    better: Literal["higher", "lower"] | None


def _read_run(folder: Path) -> Run:
    """Read a run; its label and its store's name depend on the other runs, and are empty."""
    record = read_record(folder)
    missing = [name for name in TRANSFER_SETTINGS if name not in record.config]
    if record.kind == "transfer" and record.status == "failed":  # it may have failed before its settings were known
        record = replace(record, config=dict.fromkeys(missing, "not recorded") | record.config)
    elif record.kind == "transfer" and missing:
        raise UserError(f"{folder}: the record's config lacks {', '.join(missing)}; a transfer run records them")
    _check_fields(record, folder)
    for name in TRANSFER_SETTINGS:
        if not isinstance(record.config.get(name, ""), str):
            raise UserError(f"{folder}: the record's config has a {name} that is no text")
    ids = [row.get("id") for row in record.cases]
    if not all(isinstance(one, str | None) for one in ids):
        raise UserError(f"{folder}: a case in the record has an id that is no text")
    measured = {frozenset({"dice", "score", "target"} & row.keys()) for row in record.cases}
    if record.kind == "transfer" and len(measured) > 1:
        raise UserError(f"{folder}: a case in the record lacks a score that others have")
    if None in ids or (record.kind == "transfer" and len(set(ids)) < len(ids)):
        raise UserError(f"{folder}: a case in the record has no id, or two have the same")
    named: dict[str, list[dict[str, str]]] = {
        "curves": [{"file": record.curves}] if record.curves else [],
        "pictures": record.pictures,
        "volumes": record.volumes,
        "clusters": [{"file": record.clusters}] if record.clusters else [],
    }
    there: dict[str, list[tuple[Path, dict[str, str]]]] = {}
    for what, entries in named.items():
        paths = [(_side_file(folder, what, entry), entry) for entry in entries]
        there[what] = [(path, entry) for path, entry in paths if _exists(path)]
    right, front, top = record.spacing
    spacing = (right, front, top)
    return Run(
        folder,
        "",
        "",
        record,
        curves=next((read_curves(path) for path, _ in there["curves"]), {}),
        pictures=_bounded(folder, (read_picture(path, *_titled(entry), spacing) for path, entry in there["pictures"])),
        volumes=_bounded(folder, (read_volume(path, *_titled(entry), spacing) for path, entry in there["volumes"])),
        clusters=next((read_feature_clusters(path) for path, _ in there["clusters"]), None),
        missing=tuple(what for what, entries in named.items() if len(there[what]) < len(entries)),
    )


def _check_fields(record: RunRecord, folder: Path) -> None:
    """Check what is computed with and what `read_record` has not; UserError if it is of another type."""
    try:
        check_kind(record.config, _Counts, "config")
        check_kind(record.logged, list[_Logged], "logged")
        for value in record.labels:
            if not LABEL_VALUE.fullmatch(value):
                raise ValueError(f"labels has the value {value[:60]!r}, not a whole number")
    except ValueError as error:
        raise UserError(f"{folder}: in the record {error}") from None


def _exists(path: Path) -> bool:
    """Return True if there is such a file; a name that no file can have is one of no file."""
    try:
        return path.exists()
    except OSError:
        return False


def _titled(entry: dict[str, str]) -> tuple[str, str]:
    return entry["kind"], entry["title"]


def _bounded(folder: Path, examples: Iterable[Example]) -> list[Example]:
    """Return pictures or volumes, which together take at most MAX_BYTES of memory; UserError if they take more."""
    found, size = [], 0
    for example in examples:
        size += sum(array.nbytes for array in example.arrays.values())
        if size > MAX_BYTES:
            raise UserError(f"{folder}: the record names pictures or volumes of more than {MAX_BYTES // 10**6} MB")
        found.append(example)
    return found


def _side_file(folder: Path, what: str, entry: dict[str, str]) -> Path:
    """Return the path of a file that a record names; a name that leads out of the run's folder is refused."""
    if what in ("pictures", "volumes") and not {"file", "kind", "title"} <= entry.keys():
        raise UserError(f"{folder}: a {what.removesuffix('s')} in the record lacks its file, kind or title")
    path = folder / entry["file"]
    try:
        inside = real_path(path).is_relative_to(real_path(folder))
    except (OSError, ValueError):  # a name that no file can have
        inside = False
    if not inside:
        raise UserError(f"{folder}: the record names {entry['file']}, which is not in the run's folder")
    return path


def _labels(folders: Sequence[Path], names: Sequence[str]) -> list[str]:
    """Return the runs' names, made unique by as little of the folder as possible."""
    candidates = [
        (name, f"{name} ({folder.name})", f"{name} ({folder})") for folder, name in zip(folders, names, strict=True)
    ]
    counts = Counter(label for labels in candidates for label in labels[:2])
    return [next((label for label in labels[:2] if counts[label] == 1), labels[2]) for labels in candidates]


def store_names(records: Sequence[RunRecord]) -> list[str]:
    """Return the names of the runs' stores, with the hash if several stores have one name."""
    names = [record.store.get("name", "") for record in records]
    hashes = [record.store.get("hash", "") for record in records]
    counts = Counter(name for name, _ in set(zip(names, hashes, strict=True)))
    return [name if counts[name] == 1 else f"{name} ({mark[:6]})" for name, mark in zip(names, hashes, strict=True)]


def missing_files(runs: Sequence[Run]) -> str:
    """Return a sentence on the files that records name and that are missing; empty if there are none."""
    counts = Counter(what for run in runs for what in run.missing)
    if not counts:
        return ""
    lacking = sum(bool(run.missing) for run in runs)
    each = ", ".join(f"{what} of {count}" for what, count in counts.items())
    start = "The record of 1 run is" if lacking == 1 else f"The records of {lacking} runs are"
    return f"{start} here without files that belong to them ({each}): their contents are left out."
