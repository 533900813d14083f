"""A prepared store, opened for reading."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from gvsl.cases import SPLITS, is_ignored
from gvsl.errors import UserError
from gvsl.files import url_of
from gvsl.io import Box
from gvsl.io.volume import MAX_VOXELS
from gvsl.preprocessing.parse import parse_preprocessing
from gvsl.preprocessing.spec import Preprocessing
from gvsl.readers import parse_json
from gvsl.store.arrays import IMAGE_TYPES, LABEL_TYPES, ArrayFile, read_array
from gvsl.store.manifest import CASES_NAME, MANIFEST_NAME, MAX_TABLE_BYTES, read_manifest
from gvsl.store.remote import RemoteFolder, open_remote
from gvsl.store.table import CaseTable

MINUS_ZERO, ONE = 0x8000, 0x3C00
"""Bits of -0 and 1 in float16; those of numbers above 1, infinity and NaN are larger than those of 1."""


def image_path(store: Path, case_id: str) -> Path:
    """Return the path of a case's image in a store."""
    return store / "images" / f"{case_id}.b2nd"


def label_path(store: Path, case_id: str) -> Path:
    """Return the path of a case's label map in a store."""
    return store / "labels" / f"{case_id}.b2nd"


@dataclass(frozen=True, eq=False)
class StoredCase:
    """One case of a store, without its voxels."""

    id: str
    splits: tuple[str, ...]
    shape: tuple[int, int, int]
    """(D, H, W) of the stored arrays, without the channels."""
    label_values: tuple[int, ...] | None
    """Non-zero values of the label map, sorted; None if there is no label map."""
    affine: NDArray[np.float64]
    """4 x 4, from voxels of the stored arrays to millimetres in RAS+."""
    source: str
    """The image's file, relative to the source folder."""
    source_affine: NDArray[np.float64]
    """4 x 4, from voxels of the source file to millimetres in RAS+."""
    source_shape: tuple[int, int, int]
    labels_cropped: int
    """Number of labelled voxels of the source outside the crop."""
    hash: str
    """SHA-256 of the stored voxels, in hex."""
    target: int | None = None
    """Image-level label, 0 or 1; None if there is none."""
    content: str = ""
    """SHA-256 of the source's voxels in RAS+ order, in hex; empty in stores of an earlier gvsl."""
    foreground: Box | None = None
    """Box around the foreground in an uncropped volume; None in a cropped one, and in stores of an earlier gvsl."""
    masked: bool = False
    """True if the crop used a supplied lung mask."""
    without_air: bool = False
    """True if no voxel is as dark as air although the preprocessing window is in HU."""
    notes: tuple[str, ...] = ()
    """What is odd about the volume as prepared, or was changed in reading it, with figures."""
    subject: str = ""
    """Id of the first case of the same subject; empty if no other case is known to be of it."""


@dataclass(frozen=True, eq=False)
class Cases(Mapping[str, StoredCase]):
    """The cases of a store by id, sorted; each is parsed on access."""

    path: Path | str
    """The store's folder or URL, for messages."""
    table: CaseTable

    def __getitem__(self, case_id: str) -> StoredCase:
        """Parse one case; KeyError if there is no such case, UserError if its line is malformed."""
        line = self.table.line(case_id)
        try:
            return _parse_case(parse_json(line, CaseRow))
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{self.path} has a broken manifest (case {case_id}: {error}); prepare the store again"
            ) from None

    def __contains__(self, case_id: object) -> bool:
        """Return True if there is such a case."""
        return case_id in self.table.numbers

    def __iter__(self) -> Iterator[str]:
        """Iterate over the sorted ids."""
        return iter(self.table.numbers)

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.table.numbers)


@dataclass(frozen=True, eq=False)
class Store:
    """A folder of prepared volumes. No file stays open, so a store can be pickled."""

    path: Path
    preprocessing: Preprocessing
    table: CaseTable
    """The unparsed cases."""
    refused: tuple[tuple[str, str], ...]
    """File and reason of everything that couldn't be used."""
    label_names: dict[int, str]
    """Name of every structure's label value in the store."""
    source: str
    """Name of the dataset it was prepared from."""
    hash: str
    """SHA-256 over preprocessing, cases and voxels, in hex."""
    ignored: tuple[int, ...] = ()
    """Label values whose voxels training and scores leave out."""
    remote: RemoteFolder | None = None
    """Where the store's files are copied from into `path`, if it was opened by URL."""

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Open the store at `path`: a folder, or a URL, whose files are copied when they are read, by `remote`.

        Raises:
            UserError: there is no store, or it is of another format, broken or incomplete; or it can't be reached.
        """
        url, remote = url_of(path), None
        if url is not None:
            remote = open_remote(url, (MANIFEST_NAME, CASES_NAME), MAX_TABLE_BYTES)
            path = remote.copies
        try:
            return cls._open(path, remote)
        except UserError as error:
            if url is None:
                raise
            raise UserError(str(error).replace(str(path), url)) from None

    @classmethod
    def _open(cls, path: Path, remote: RemoteFolder | None) -> "Store":
        manifest, table = read_manifest(path)
        try:
            names = {int(value): str(name) for value, name in manifest["label_names"].items()}
            ignored = tuple(value for value, name in names.items() if is_ignored(name))
            store = cls(
                path=path,
                preprocessing=parse_preprocessing(manifest["preprocessing"]),
                table=table,
                refused=tuple((item["file"], item["reason"]) for item in manifest["refused"]),
                label_names={value: name for value, name in names.items() if value not in ignored},
                source=manifest["source"],
                hash=manifest["hash"],
                ignored=ignored,
                remote=remote,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path} has a broken manifest ({error!r}); prepare the store again") from None
        if remote is None:
            _check_files(store)
        return store

    @property
    def place(self) -> str:
        """Its URL if it was opened by one, else its folder; for messages."""
        return self.remote.url if self.remote else str(self.path)

    def place_of(self, file: Path) -> str:
        """Return where a file in `path` is, for messages: its URL in a store by URL."""
        return self.remote.address(file) if self.remote else str(file)

    @property
    def cases(self) -> Cases:
        """The cases by id, sorted."""
        return Cases(self.place, self.table)

    def split(self, name: str) -> list[str]:
        """Return the sorted ids of a split; UserError if the split is empty."""
        found = self.members(name)
        if not found:
            present = ", ".join(sorted(split for split in SPLITS if self.table.of_split(split).size))
            raise UserError(f"{self.place} has no case in the split {name!r}; its splits are {present or 'none'}")
        return found

    def members(self, split: str) -> list[str]:
        """Return the sorted ids of a split, which may be empty."""
        ids = list(self.table.numbers)
        return [ids[member] for member in self.table.of_split(split)]

    def shapes(self, name: str) -> list[tuple[int, int, int]]:
        """Return (D, H, W) of each volume of a split, sorted by id, without parsing the cases."""
        table = self.table
        return [_three(shape) for shape in table.shapes[table.of_split(name)].tolist()]

    def subjects(self, ids: Sequence[str]) -> list[str]:
        """Return the subject of each case, as the id of its first case."""
        if not self.table.names_subjects:
            return list(ids)
        return [self.cases[case].subject or case for case in ids]

    @property
    def channel_count(self) -> int:
        """Number of channels of every image."""
        return self.preprocessing.channel_count

    def image(self, case_id: str, box: Box | None = None) -> NDArray[np.float32]:
        """Read an image or the part in `box`: (D, H, W), or (C, D, H, W) if there are several, float32 in [0, 1].

        Raises:
            UserError: the store has no such case, or the file is damaged.
        """
        found = self._array(case_id, 0, box)
        if _outside(found):
            place = self.place_of(image_path(self.path, case_id))
            raise UserError(f"{place} holds values outside 0 to 1; prepare the store again")
        return found.astype(np.float32)

    def channels(self, case_id: str, box: Box | None = None) -> NDArray[np.float32]:
        """Read the same as (C, D, H, W), also if there is one channel."""
        found = self.image(case_id, box)
        return found if found.ndim > 3 else found[None]

    def files(self, case: StoredCase) -> list[ArrayFile]:
        """Return the files of a case's image and, if it has one, of its label map."""
        shape = case.shape if self.channel_count == 1 else (self.channel_count, *case.shape)
        found = [ArrayFile(image_path(self.path, case.id), shape, IMAGE_TYPES)]
        if case.label_values is not None:
            found.append(ArrayFile(label_path(self.path, case.id), case.shape, LABEL_TYPES))
        return found

    def label(self, case_id: str, box: Box | None = None) -> NDArray[Any]:
        """Read a label map or the part in `box`: (D, H, W), uint8 or int16.

        Raises:
            UserError: the store has no such case or label map, or the file is damaged.
        """
        if not self.has_label(case_id):
            raise UserError(f"case {case_id} of {self.place} has no label map")
        return self._array(case_id, 1, box)

    def has_label(self, case_id: str) -> bool:
        """Return True if a case has a label map; UserError if the store has no such case."""
        return self._case(case_id).label_values is not None

    def _array(self, case_id: str, number: int, box: Box | None) -> NDArray[Any]:
        """Read the image (0) or the label map (1) of a case; of a store by URL, after its files were copied."""
        case = self._case(case_id)
        files = self.files(case)
        if self.remote is not None:
            return self.remote.array(files, case.hash, number, box)
        path, shape, types = files[number]
        return read_array(path, shape, box, types)

    def _case(self, case_id: str) -> StoredCase:
        if case_id not in self.cases:
            raise UserError(f"{self.place} has no case {case_id!r}; `gvsl inspect {self.place}` lists what it holds")
        return self.cases[case_id]


class Geometry(TypedDict):
    """Grids of a case in its row."""

    affine: list[Any]
    source_affine: list[Any]
    source_shape: list[int]


class CaseRow(TypedDict):
    """A line of cases.jsonl."""

    id: str
    splits: list[str]
    shape: list[int]
    labels: list[int] | None
    geometry: Geometry
    source: str
    labels_cropped: int
    hash: str
    target: NotRequired[int | None]
    content: NotRequired[str]
    foreground: NotRequired[list[list[int]] | None]
    lungs: NotRequired[str]
    without_air: NotRequired[bool]
    notes: NotRequired[list[str]]
    subject: NotRequired[str]


def _parse_case(item: CaseRow) -> StoredCase:
    geometry = item["geometry"]
    return StoredCase(
        id=item["id"],
        splits=tuple(item["splits"]),
        shape=_three(item["shape"]),
        label_values=None if item["labels"] is None else tuple(item["labels"]),
        affine=_affine(geometry["affine"]),
        source=item["source"],
        source_affine=_affine(geometry["source_affine"]),
        source_shape=_three(geometry["source_shape"]),
        labels_cropped=item["labels_cropped"],
        hash=item["hash"],
        target=_target(item.get("target")),
        content=str(item.get("content", "")),
        foreground=_foreground(item.get("foreground"), item["shape"]),
        masked=item.get("lungs") == "mask",
        without_air=bool(item.get("without_air", False)),
        notes=tuple(str(note) for note in item.get("notes", ())),
        subject=item.get("subject", ""),
    )


def _affine(rows: list[Any]) -> NDArray[np.float64]:
    """Check a 4 x 4 matrix."""
    found = np.array(rows, dtype=np.float64)
    if found.shape != (4, 4) or not np.isfinite(found).all():
        raise ValueError("an affine is no 4 x 4 matrix of finite numbers")
    return found


def _target(value: object) -> int | None:
    """Check an optional image-level label."""
    if value is not None and (isinstance(value, bool) or value not in (0, 1)):
        raise ValueError(f"a target is {value!r}, not 0 or 1")
    return None if value is None else int(str(value))


def _foreground(value: list[list[int]] | None, shape: list[int]) -> Box | None:
    """Check an optional box."""
    if value is None:
        return None
    sides = []
    for (first, last), size in zip(value, shape, strict=True):
        if not 0 <= first < last <= size:
            raise ValueError(f"a foreground from {first} to {last} in {size} voxels")
        sides.append(slice(first, last))
    return sides[0], sides[1], sides[2]


def _outside(image: NDArray[Any]) -> bool:
    """Return True if a value of a float16 image is not in 0 to 1; by its bits, which is faster than comparing."""
    bits = image.view(np.uint16)
    negative = bits > MINUS_ZERO
    return bool(negative.any() or (bits & ~np.uint16(MINUS_ZERO)).max(initial=0) > ONE)


def _three(sizes: list[int]) -> tuple[int, int, int]:
    first, second, third = sizes
    if min(sizes) < 1 or first * second * third > MAX_VOXELS:
        raise ValueError(f"a volume has {sizes} voxels")
    return first, second, third


def _check_files(store: Store) -> None:
    """Check names only: a store may hold 100,000 volumes on a slow disk."""
    table = store.table
    labelled = {case for case, has in zip(table.numbers, table.labelled, strict=True) if has}
    for folder, expected in (("images", table.numbers.keys()), ("labels", labelled)):
        missing = sorted(expected - _names(store.path / folder))
        if missing:
            first = f"{folder}/{missing[0]}.b2nd" + (f" and {len(missing) - 1} more" if missing[1:] else "")
            raise UserError(f"{store.place} is incomplete: {first} is missing; copy it again, or prepare it again")


def _names(folder: Path) -> set[str]:
    """Return the ids of the arrays in a folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name.removesuffix(".b2nd") for entry in entries if entry.name.endswith(".b2nd")}
    except (FileNotFoundError, NotADirectoryError):
        return set()
