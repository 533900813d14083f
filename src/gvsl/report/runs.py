"""Readers of run folders: the record, and the curves, pictures, volumes and clusters beside it."""

import csv
import io
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gvsl.errors import UserError
from gvsl.records import RunRecord, find_records
from gvsl.report.feature_clusters import FeatureClusters, read_feature_clusters
from gvsl.report.run_volumes import Volume, read_volume

Array = NDArray[np.float64]

AXES = (0, 1, 2)
PICTURE_ARRAYS: dict[str, tuple[str, ...]] = {
    "pair": ("moving", "fixed", "affine", "warped", "grid"),
    "restoration": ("original", "damaged", "restored"),
    "segmentation": ("image", "truth", "prediction"),
}
OPTIONAL_ARRAYS: dict[str, tuple[str, ...]] = {"pair": ("moving_label", "fixed_label", "warped_label")}
OWN_GRID = ("moving", "moving_label")
"""The arrays of a pair on the moving image's grid; all others are on the fixed one's."""
TRANSFER_SETTINGS = ("mode", "weights", "method")


def read_runs(folders: Iterable[Path]) -> list["Run"]:
    """Read every run in or below `folders`, sorted by folder.

    A record may be without the files that it names; `Run.missing` lists those.

    Raises:
        UserError: a folder holds no record, or a record or a file beside it is broken.
    """
    found = find_records(folders)
    labels = _labels([folder for folder, _ in found], [record.name for _, record in found])
    stores = store_names([record for _, record in found])
    return [
        _read_run(folder, record, label, store)
        for (folder, record), label, store in zip(found, labels, stores, strict=True)
    ]


def read_curves(path: Path) -> dict[str, "Curve"]:
    """Read a CSV file with a `step` column into a curve for each other column; blank cells were not logged.

    Raises:
        UserError: the file is missing, or is not such a table of numbers.
    """
    try:
        rows = list(csv.reader(io.StringIO(_read_bytes(path).decode("utf-8"))))
    except (UnicodeDecodeError, csv.Error) as error:
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


def read_picture(path: Path, kind: str, title: str) -> "Picture":
    """Read one picture: the 2D arrays of its kind for the three axes, and its scalars.

    Raises:
        UserError: the file is missing, is not an npz file, or lacks or misshapes an array.
    """
    if kind not in PICTURE_ARRAYS:
        raise UserError(f"{path} has kind {kind!r} in its record; a picture is one of {', '.join(PICTURE_ARRAYS)}")
    try:
        file = np.load(io.BytesIO(_read_bytes(path)), allow_pickle=False)
        stored = {name: np.asarray(file[name], dtype=np.float64) for name in getattr(file, "files", ())}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} can't be read as a picture: {error}") from None
    arrays = {name: array for name, array in stored.items() if array.ndim > 0}
    for problem in _array_problems(arrays, kind):
        raise UserError(f"{path} is a broken picture: {problem}")
    scalars = {name: float(array) for name, array in stored.items() if array.ndim == 0}
    return Picture(kind, title, arrays, scalars)


@dataclass(frozen=True)
class Curve:
    """One logged metric over the steps; both (N,), without blanks."""

    steps: Array
    values: Array


@dataclass(frozen=True)
class Picture:
    """The slices of one example, by name and axis, such as `moving_0`."""

    kind: str
    title: str
    arrays: dict[str, Array]
    scalars: dict[str, float]

    def planes(self, name: str) -> list[Array] | None:
        """Return the array `name` for the three axes, or None if the picture lacks it."""
        if f"{name}_0" not in self.arrays:
            return None
        return [self.arrays[f"{name}_{axis}"] for axis in AXES]


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


def _read_run(folder: Path, record: RunRecord, label: str, store: str) -> Run:
    missing = [name for name in TRANSFER_SETTINGS if name not in record.config]
    if record.kind == "transfer" and record.status == "failed":  # it may have failed before its settings were known
        record = replace(record, config=dict.fromkeys(missing, "not recorded") | record.config)
    elif record.kind == "transfer" and missing:
        raise UserError(f"{folder}: the record's config lacks {', '.join(missing)}; a transfer run records them")
    ids = [row.get("id") for row in record.cases]
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
        there[what] = [(path, entry) for path, entry in paths if path.exists()]
    return Run(
        folder,
        label,
        store,
        record,
        curves=next((read_curves(path) for path, _ in there["curves"]), {}),
        pictures=[read_picture(path, entry["kind"], entry["title"]) for path, entry in there["pictures"]],
        volumes=[read_volume(path, entry["kind"], entry["title"]) for path, entry in there["volumes"]],
        clusters=next((read_feature_clusters(path) for path, _ in there["clusters"]), None),
        missing=tuple(what for what, entries in named.items() if len(there[what]) < len(entries)),
    )


def _side_file(folder: Path, what: str, entry: dict[str, str]) -> Path:
    """Return the path of a file that a record names; a name that leads out of the run's folder is refused."""
    if what in ("pictures", "volumes") and not {"file", "kind", "title"} <= entry.keys():
        raise UserError(f"{folder}: a {what.removesuffix('s')} in the record lacks its file, kind or title")
    path = folder / entry["file"]
    if not path.resolve().is_relative_to(folder.resolve()):
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


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} is named by its run's record but can't be read: {error.strerror}") from None


def _array_problems(arrays: dict[str, Array], kind: str) -> list[str]:
    """Return the problems of a picture's arrays."""
    needed = [f"{name}_{axis}" for name in PICTURE_ARRAYS[kind] for axis in AXES]
    missing = [name for name in needed if name not in arrays]
    if missing:
        return [f"it lacks {', '.join(missing)}"]
    reference = "fixed" if kind == "pair" else PICTURE_ARRAYS[kind][0]
    problems = []
    for name in (*PICTURE_ARRAYS[kind], *OPTIONAL_ARRAYS.get(kind, ())):
        there = [f"{name}_{axis}" in arrays for axis in AXES]
        if any(there) and not all(there):
            problems.append(f"{name} is missing for some of the three axes")
        for axis in AXES if all(there) else ():
            plane = arrays[f"{name}_{axis}"].shape
            grid = arrays[f"{'moving' if name in OWN_GRID else reference}_{axis}"].shape
            wanted = (2, *grid) if name == "grid" else grid
            if plane != wanted or len(grid) != 2 or min(grid) < 2:
                problems.append(f"{name}_{axis} has shape {plane}, not {wanted}, or is no 2D slice")
    return problems
