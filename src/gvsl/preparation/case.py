"""Preparation of one case: read, check and preprocess its files, write its arrays, make its manifest row."""

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gvsl.cases import Case, is_ignored
from gvsl.errors import UserError
from gvsl.files import MAX_NAME
from gvsl.io import UnusableFile, Volume, read_label, refuse_other_grid, to_canonical
from gvsl.preparation.sources import Stamp, Stamps, case_stamps
from gvsl.preparation.staging import Done, put_array
from gvsl.preprocessing.apply import foreground_box, preprocess_channels, without_air
from gvsl.preprocessing.checks import channels_unlike_hounsfield, check_channels
from gvsl.preprocessing.images import notes_on, read_image
from gvsl.preprocessing.relabel import NAMED, refuse_unnamed, relabelled
from gvsl.preprocessing.spec import Preprocessing
from gvsl.store.audit import channels_hash
from gvsl.text import few

Row = dict[str, Any]
"""A case of the manifest."""
Refusal = dict[str, str]
"""`file` and `reason`."""
Outcome = tuple[str, Done | None, Refusal | None]
"""The case's id, and either its result or the reason why it is refused."""


def prepare_case(
    case: Case,
    folder: Path,
    root: Path,
    preprocessing: Preprocessing,
    label_values: Mapping[int, int],
    label_names: Mapping[int, str],
) -> Outcome:
    """Write one case's arrays and return its manifest row, or the reason why it can't be used.

    Args:
        case: with its files.
        folder: the staging area.
        root: the folder that contains all files.
        preprocessing: of the volume.
        label_values: label value in the store by that in the files; empty if they stay the same.
        label_names: name by label value in the store; if there are any, other values are refused.
    """
    main = first_file(case)
    try:
        with _blaming(main):
            _check(case)
            before = _stamps(case)
            channels = read_image(case, preprocessing)
            uprights = [to_canonical(channel) for channel in channels]
            content = channels_hash(uprights)
            airless = any(map(without_air, uprights, preprocessing.contracts))
            notes = channels_unlike_hounsfield(uprights, preprocessing, airless=False)
            notes += notes_on(channels, preprocessing)
        label, on_label = _read_label(case, channels[0], uprights[0], label_values, label_names)
        mask = _read_mask(case.mask, uprights[0]) if preprocessing.crop == "lungs" else None
        with _blaming(main):
            ignored = [value for value, name in label_names.items() if is_ignored(name)]
            ready, ready_label, lost = preprocess_channels(uprights, label, preprocessing, mask, ignored)
            notes += [*on_label, *check_channels(uprights, ready, preprocessing)]
    except _RefusedError as error:
        return case.id, None, {"file": relative(error.file, root), "reason": str(error)}
    written = _write(case.id, folder, ready, ready_label)
    if label is not None:
        notes += _lost_structures(label, {*ignored, *(written.labels or ())}, preprocessing)
    row: Row = {  # the hash of a store is of these keys in this order
        "id": case.id,
        "shape": list(written.shape),
        "labels": written.labels,
        "labels_cropped": lost,
        "geometry": {
            "affine": ready[0].affine.tolist(),
            "source_affine": channels[0].affine.tolist(),
            "source_shape": list(channels[0].array.shape),
        },
        "hash": written.hash,
        "content": content,
    }
    if mask is not None:
        row["lungs"] = "mask"
    if airless:
        row["without_air"] = True
    if notes:
        row["notes"] = notes
    if preprocessing.crop == "none":
        brightest = np.maximum.reduce([channel.array for channel in ready])
        sides = (side.indices(size) for side, size in zip(foreground_box(brightest), brightest.shape, strict=True))
        row["foreground"] = [[int(first), int(last)] for first, last, _ in sides]
    return case.id, (update_row(row, case, root), before.origin(case.id, written.sizes)), None


class _RefusedError(Exception):
    """A case can't be used because of one of its files."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(reason)
        self.file = file


@contextmanager
def _blaming(file: Path) -> Iterator[None]:
    """Turn whatever is wrong with a case into a refusal that names a file, so that the other cases are prepared.

    Raises:
        UserError: of no file, such as a package that is missing.
    """
    try:
        yield
    except UnusableFile as error:
        raise _RefusedError(file, str(error)) from None
    except MemoryError:
        raise _RefusedError(file, "needs more memory than is free") from None
    except UserError:
        raise
    except Exception as error:
        raise _RefusedError(file, f"fails with {type(error).__name__}: {error}") from error


def _check(case: Case) -> None:
    if len(os.fsencode(f"{case.id}.b2nd")) > MAX_NAME:
        raise UnusableFile(
            f"its name is too long for a store, whose names end in .b2nd: give it at most {MAX_NAME - 5} bytes"
        )
    if case.unusable:
        raise UnusableFile(case.unusable)


def _read_label(
    case: Case,
    image: Volume,
    upright: Volume,
    label_values: Mapping[int, int],
    label_names: Mapping[int, str],
) -> tuple[Volume | None, list[str]]:
    """Return a case's label map on the grid of its upright image, None without one, and notes on it."""
    if case.label is None:
        return None, []
    with _blaming(case.label):
        found = read_label(case.label, (), image, label_names)
        label = to_canonical(relabelled(found, label_values))
        refuse_unnamed(label, label_names)
        refuse_other_grid(label, upright)
        notes = [f"its label map: {note}" for note in found.notes]
        return Volume(label.array, upright.affine), notes  # equal but for rounding


def _lost_structures(label: Volume, left: Collection[int], preprocessing: Preprocessing) -> list[str]:
    """Return a note on the structures of a label map of which no voxel is left, as of those thinner than a voxel."""
    found = zip(*np.unique(label.array, return_counts=True), strict=True)
    lost = [f"{value} ({count} voxels)" for value, count in found if int(value) not in {0, *left}]
    if not lost:
        return []
    spacing = " x ".join(f"{edge:g}" for edge in preprocessing.voxel)
    return [
        f"its label map: nothing is left of label {few(lost, NAMED)} at {spacing} mm: it is thinner than these voxels, "
        "or was cropped away"
    ]


def _read_mask(file: Path | None, upright: Volume) -> Volume | None:
    """Return the lung mask of an upright image, None without one."""
    if file is None:
        return None
    with _blaming(file):
        mask = to_canonical(read_label(file))
        refuse_other_grid(mask, upright)
        if not (mask.array > 0).any():
            raise UnusableFile("is an empty lung mask; correct it, or remove it")
        return mask


class _Written(NamedTuple):
    """The arrays of a case."""

    shape: tuple[int, ...]
    labels: list[int] | None
    """Values of the label map; None without one."""
    hash: str
    sizes: tuple[int, ...]
    """Of the files, in bytes."""


def _write(case: str, folder: Path, channels: Sequence[Volume], label: Volume | None) -> _Written:
    """Write a prepared case's arrays."""
    pixels = stored_array(channels)
    digest = hashlib.sha256(pixels.tobytes())
    sizes = [put_array(folder, "images", case, pixels)]
    values = None
    if label is not None:
        values = [int(value) for value in np.unique(label.array) if value != 0]
        digest.update(label.array.tobytes())
        sizes.append(put_array(folder, "labels", case, label.array))
    return _Written(pixels.shape[-3:], values, digest.hexdigest(), tuple(sizes))


def stored_array(channels: Sequence[Volume]) -> NDArray[np.float16]:
    """Return the channels of a prepared image as a store holds them: (C, D, H, W), or (D, H, W) if there is one."""
    if len(channels) == 1:
        return channels[0].array.astype(np.float16)
    return np.stack([channel.array.astype(np.float16) for channel in channels])


def first_file(case: Case) -> Path:
    """Return a case's image file, the first one of a DICOM series."""
    return case.image / case.parts[0] if case.parts else case.image


def update_row(row: Row, case: Case, root: Path) -> Row:
    """Set splits, source and target of a row; these can change while the case's files stay the same."""
    updated = {name: value for name, value in row.items() if name != "target"}
    updated |= {"splits": list(case.splits), "source": relative(first_file(case), root)}
    return updated if case.target is None else updated | {"target": case.target}


def with_subject(row: Row, first: str) -> Row:
    """Set the first case of the same subject in a row; an empty one says that there is no other."""
    updated = {name: value for name, value in row.items() if name != "subject"}
    return updated | {"subject": first} if first else updated


def _stamps(case: Case) -> Stamps:
    """Stamp a case's files before they are read, so that the next run notices changes in the meantime."""
    try:
        return case_stamps(case, content=True)
    except OSError:  # reported in more detail when the file is read
        return Stamps(Stamp(0, 0), None if case.label is None else Stamp(0, 0))


def relative(path: Path, root: Path) -> str:
    """Return a file's name in the manifest."""
    name = path.absolute().relative_to(root).as_posix()
    return name.encode("utf-8", "backslashreplace").decode()  # a name may be no valid Unicode
