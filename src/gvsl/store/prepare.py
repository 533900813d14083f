"""From files on disk to a store: every volume read, checked, preprocessed and written once."""

import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from gvsl.errors import UserError
from gvsl.files import refuse_existing, whole_folder
from gvsl.io import UnusableFile, Volume, read_nifti, read_nifti_label, same_grid
from gvsl.progress import Advance
from gvsl.store.arrays import write_array
from gvsl.store.manifest import FORMAT, write_manifest
from gvsl.store.names import safe_id
from gvsl.store.preprocess import preprocess
from gvsl.store.preprocessing import Preprocessing
from gvsl.store.store import Store, image_path, label_path
from gvsl.types import Case

Row = dict[str, Any]
"""A case of the manifest."""
Refusal = dict[str, str]
"""`file` and `reason`."""
Outcome = tuple[Row | None, Refusal | None]
"""One of the two."""


def prepare(
    cases: Sequence[Case],
    out: Path,
    preprocessing: Preprocessing,
    *,
    label_names: Mapping[int, str] | None = None,
    source: str,
    jobs: int = 1,
    progress: Advance | None = None,
) -> Store:
    """Prepare `cases` into a new store at `out`, in `jobs` processes (-1: one for each core).

    A case whose files can't be used is left out and listed with the reason; the rest goes on. `progress` is
    called once for each case that is done with. The store appears whole or not at all. Label values without a
    name in `label_names` are named "label N".

    Raises:
        UserError: `out` exists, there are no cases or none is usable, `jobs` is 0, or memory ran out.
    """
    refuse_existing(out)
    if not cases:
        raise UserError(f"{source} holds no cases to prepare")
    if jobs == 0:
        raise UserError("jobs is 0; name the number of processes, or -1 for one a core")
    advance = progress or _do_nothing
    root = _common_folder(cases)
    unique, refused = _unique_ids(cases, root)
    stored = []
    with _telling_of_the_disk(out), whole_folder(out) as folder:
        (folder / "images").mkdir()
        (folder / "labels").mkdir()
        for _ in refused:
            advance()
        with _outcomes(unique, folder, root, preprocessing, jobs) as outcomes:
            for row, refusal in outcomes:
                if row is not None:
                    stored.append(row)
                if refusal is not None:
                    refused.append(refusal)
                advance()
        refused.sort(key=lambda item: item["file"])
        if not stored:
            first = f"{refused[0]['file']}: {refused[0]['reason']}"
            raise UserError(f"none of the {len(cases)} cases of {source} can be used; the first, {first}")
        stored.sort(key=lambda row: row["id"])
        manifest = {
            "format": FORMAT,
            "source": source,
            "preprocessing": asdict(preprocessing),
            "label_names": _complete_names(stored, label_names or {}),
            "cases": stored,
            "refused": refused,
            "written_by": f"gvsl {version('gvsl')}",
        }
        write_manifest(folder, manifest)
    return Store.open(out)


@contextmanager
def _outcomes(
    cases: Sequence[Case], folder: Path, root: Path, preprocessing: Preprocessing, jobs: int
) -> Iterator[Iterable[Outcome]]:
    """Prepare each case, in whatever order they get done; when the block ends, no process writes on."""
    if jobs == 1:
        yield (_prepare_one(case, folder, root, preprocessing) for case in cases)
        return
    pool = Parallel(n_jobs=jobs, return_as="generator_unordered")
    outcomes = pool(delayed(_prepare_one)(case, folder, root, preprocessing) for case in cases)
    try:
        yield outcomes
    except TerminatedWorkerError:
        raise UserError("a process was killed, most likely for want of memory; prepare with fewer jobs") from None
    finally:
        with warnings.catch_warnings():  # joblib warns of the cases that are cancelled, and that is meant
            warnings.simplefilter("ignore")
            outcomes.close()


def _prepare_one(case: Case, folder: Path, root: Path, preprocessing: Preprocessing) -> Outcome:
    """Write one case's arrays and return its row of the manifest, or why it can't be used."""
    current = case.image
    try:
        image = read_nifti(case.image)
        label = None
        if case.label is not None:
            current = case.label
            label = read_nifti_label(case.label)
            if not same_grid(image, label):
                raise UnusableFile(f"its grid is not that of its image: {_grids(label, image)}")
            label = Volume(label.array, image.affine)  # equal but for rounding
            current = case.image
        ready, ready_label, lost = preprocess(image, label, preprocessing)
    except UnusableFile as error:
        return None, {"file": _relative(current, root), "reason": str(error)}
    pixels = ready.array.astype(np.float16)
    digest = hashlib.sha256(pixels.tobytes())
    write_array(image_path(folder, case.id), pixels)
    values = None
    if ready_label is not None:
        values = [int(value) for value in np.unique(ready_label.array) if value != 0]
        digest.update(ready_label.array.tobytes())
        write_array(label_path(folder, case.id), ready_label.array)
    row = {
        "id": case.id,
        "splits": list(case.splits),
        "shape": list(pixels.shape),
        "labels": values,
        "labels_cropped": lost,
        "geometry": {
            "affine": ready.affine.tolist(),
            "source_affine": image.affine.tolist(),
            "source_shape": list(image.array.shape),
        },
        "source": _relative(case.image, root),
        "hash": digest.hexdigest(),
    }
    if case.target is not None:
        row["target"] = case.target
    return row, None


def _unique_ids(cases: Sequence[Case], root: Path) -> tuple[list[Case], list[Refusal]]:
    """The cases with ids that are safe as file names; of two that share one, the later is refused."""
    kept: dict[str, Case] = {}
    refused = []
    for case in cases:
        safe = replace(case, id=safe_id(case.id))
        key = safe.id.casefold()  # some file systems don't tell A from a
        if key in kept:
            reason = f"its id {safe.id} is that of {_relative(kept[key].image, root)} already; rename one of them"
            refused.append({"file": _relative(case.image, root), "reason": reason})
        else:
            kept[key] = safe
    return list(kept.values()), refused


def _complete_names(stored: list[Row], names: Mapping[int, str]) -> dict[str, str]:
    """A name for every value that was given one or that occurs."""
    values = {int(value) for value in names if int(value) != 0} | {
        value for row in stored for value in row["labels"] or []
    }
    return {str(value): names.get(value, f"label {value}") for value in sorted(values)}


@contextmanager
def _telling_of_the_disk(out: Path) -> Iterator[None]:
    """Say in one line why `out` can't be written; what can't be read has been refused by then."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{out} can't be written: {error.strerror or error}") from None


def _do_nothing() -> None:
    """Stand in for a progress that nobody asked for."""


def _common_folder(cases: Sequence[Case]) -> Path:
    files = [path.absolute() for case in cases for path in (case.image, case.label) if path is not None]
    return Path(os.path.commonpath([file.parent for file in files]))


def _relative(path: Path, root: Path) -> str:
    return path.absolute().relative_to(root).as_posix()


def _grids(label: Volume, image: Volume) -> str:
    sizes = [" x ".join(str(size) for size in volume.array.shape) for volume in (label, image)]
    return f"{sizes[0]} against {sizes[1]}" if sizes[0] != sizes[1] else "same shape, another place in space"
