"""One case: its files read, checked and preprocessed, its arrays written, and its row of the manifest."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gvsl.cases import Case
from gvsl.io import UnusableFile, Volume, read_label, read_volume, same_grid, to_canonical
from gvsl.preparation.sources import Origin, Stamp, case_stamps
from gvsl.preparation.staging import Done, put_array
from gvsl.preprocessing.apply import foreground_box, preprocess, without_air
from gvsl.preprocessing.relabel import relabelled
from gvsl.preprocessing.spec import Preprocessing
from gvsl.store.audit import content_hash

Row = dict[str, Any]
"""A case of the manifest."""
Refusal = dict[str, str]
"""`file` and `reason`."""
Outcome = tuple[str, Done | None, Refusal | None]
"""The case's id, and one of the two."""


def prepare_case(
    case: Case, folder: Path, root: Path, preprocessing: Preprocessing, label_values: Mapping[int, int]
) -> Outcome:
    """Write one case's arrays and return its row of the manifest, or why it can't be used."""
    current = whole = first_file(case)
    try:
        if case.unusable:
            raise UnusableFile(case.unusable)
        before = _stamps(case)
        image = read_volume(case.image, case.parts)
        upright = to_canonical(image)
        content = content_hash(upright)
        airless = without_air(upright, preprocessing)
        label = None
        if case.label is not None:
            current = case.label
            label = to_canonical(relabelled(read_label(case.label), label_values))
            if not same_grid(upright, label):
                raise UnusableFile(f"its grid is not that of its image: {_grids(label, upright)}")
            label = Volume(label.array, upright.affine)  # equal but for rounding
            current = whole
        mask = None
        if case.mask is not None and preprocessing.crop == "lungs":
            current = case.mask
            mask = to_canonical(read_label(case.mask))
            if not same_grid(upright, mask):
                raise UnusableFile(f"its grid is not that of its image: {_grids(mask, upright)}")
            if not (mask.array > 0).any():
                raise UnusableFile("is a mask of the lungs that marks no voxel; mend it, or remove it")
            current = whole
        ready, ready_label, lost = preprocess(upright, label, preprocessing, mask)
    except UnusableFile as error:
        return case.id, None, {"file": relative(current, root), "reason": str(error)}
    except MemoryError:
        return case.id, None, {"file": relative(current, root), "reason": "is larger than the memory that is free"}
    pixels = ready.array.astype(np.float16)
    digest = hashlib.sha256(pixels.tobytes())
    sizes = [put_array(folder, "images", case.id, pixels)]
    values = None
    if ready_label is not None:
        values = [int(value) for value in np.unique(ready_label.array) if value != 0]
        digest.update(ready_label.array.tobytes())
        sizes.append(put_array(folder, "labels", case.id, ready_label.array))
    row = {
        "id": case.id,
        "shape": list(pixels.shape),
        "labels": values,
        "labels_cropped": lost,
        "geometry": {
            "affine": ready.affine.tolist(),
            "source_affine": image.affine.tolist(),
            "source_shape": list(image.array.shape),
        },
        "hash": digest.hexdigest(),
        "content": content,
    }
    if mask is not None:
        row["lungs"] = "mask"
    if airless:
        row["without_air"] = True
    if preprocessing.crop == "none":  # else the volume is what the crop is about
        sides = (side.indices(size) for side, size in zip(foreground_box(ready.array), pixels.shape, strict=True))
        row["foreground"] = [[int(first), int(last)] for first, last, _ in sides]
    image_stamp, label_stamp = before
    return case.id, (told(case, root, row), Origin(case.id, image_stamp, label_stamp, tuple(sizes))), None


def first_file(case: Case) -> Path:
    """The file that stands for a case's image: itself, or the first of a DICOM series."""
    return case.image / case.parts[0] if case.parts else case.image


def told(case: Case, root: Path, row: Row) -> Row:
    """A row with what is known of a case without its voxels; that can change while the files stay the same."""
    told: Row = {"splits": list(case.splits), "source": relative(first_file(case), root)}
    if case.target is not None:
        told["target"] = case.target
    return {name: value for name, value in row.items() if name != "target"} | told


def _stamps(case: Case) -> tuple[Stamp, Stamp | None]:
    """What a case's files are like, before they are read: if they change meanwhile, the next run sees it."""
    try:
        return case_stamps(case, content=True)
    except OSError:  # said by whoever reads it next, and better
        return Stamp(0, 0), None if case.label is None else Stamp(0, 0)


def relative(path: Path, root: Path) -> str:
    """A file as the manifest names it."""
    name = path.absolute().relative_to(root).as_posix()
    return name.encode("utf-8", "backslashreplace").decode()  # a name may be no text


def _grids(label: Volume, image: Volume) -> str:
    sizes = [" x ".join(str(size) for size in volume.array.shape) for volume in (label, image)]
    return f"{sizes[0]} against {sizes[1]}" if sizes[0] != sizes[1] else "same shape, another place in space"
