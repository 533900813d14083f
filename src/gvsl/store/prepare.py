"""From files on disk to a store: every volume read, checked, preprocessed and written once."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from gvsl.errors import UserError
from gvsl.io import UnusableFile, Volume, read_label, read_volume, same_grid, to_canonical
from gvsl.progress import Advance
from gvsl.store.audit import content_hash, refuse_leakage
from gvsl.store.existing import Existing, open_existing
from gvsl.store.manifest import CASES_NAME, FORMAT, LABEL_VALUES, MANIFEST_NAME, manifest_text
from gvsl.store.names import refuse_url, safe_id
from gvsl.store.preprocess import preprocess, without_air
from gvsl.store.preprocessing import Preprocessing
from gvsl.store.relabel import relabelled
from gvsl.store.sources import Origin, Stamp, case_stamps, unchanged
from gvsl.store.store import Store, image_path
from gvsl.store.table import row_line
from gvsl.store.workers import in_this_machine, on_dask, usual_processes
from gvsl.store.workplace import SOURCES_NAME, Done, Workplace, put_array, workplace
from gvsl.types import Case

Row = dict[str, Any]
"""A case of the manifest."""
Refusal = dict[str, str]
"""`file` and `reason`."""
Outcome = tuple[str, Done | None, Refusal | None]
"""The case's id, and one of the two."""


@dataclass(frozen=True)
class Work:
    """What one call of `prepare` did."""

    prepared: int
    """Cases that were read, preprocessed and written."""
    changed: int
    """Those among them whose files are others than those of the case that the store had."""
    resumed: int
    """Cases that an earlier run had prepared before it was stopped."""
    kept: int
    """Cases that the store had, and whose files are the same."""
    refused: int
    """Files that can't be used."""
    stale: tuple[str, ...]
    """Ids of cases that the store keeps although their files can't be used any more."""
    gone: tuple[str, ...]
    """Ids of cases that the store keeps although the source has them no more."""


def prepare(
    cases: Sequence[Case],
    out: Path,
    preprocessing: Preprocessing,
    *,
    label_names: Mapping[int, str] | None = None,
    label_values: Mapping[int, int] | None = None,
    source: str,
    processes: int | None = 1,
    dask: str | None = None,
    allow_leakage: bool = False,
    progress: Callable[[int], Advance] | None = None,
    tell: Callable[[Work], None] | None = None,
) -> Store:
    """Prepare `cases` into a store at `out`, or what is missing or has changed of them into the one that is there.

    A case whose files can't be used is left out and listed with the reason; the rest goes on. The store appears
    whole or not at all; a run that was stopped goes on where it was when it is called again, from OUT.partial. From
    a store that is there nothing is removed. Label values without a name in `label_names` are named "label N".

    Args:
        cases: what there is.
        out: the store's folder.
        preprocessing: the contract; that of a store that is there must be the same.
        label_names: a name for each label value of the store.
        label_values: label value in the files to that in the store; as they are if there are none. Those of a store
            that is there must be the same.
        source: what the cases are called together; that of a store that is there must be the same.
        processes: how many to prepare with; None for one a core, as far as there is memory.
        dask: the address of a Dask scheduler, to prepare on its cluster instead.
        allow_leakage: take images that are learnt from and held out, under two names.
        progress: given how many cases there are to prepare, returns what is called once for each that is done with.
        tell: is called at the end with what was done.

    Raises:
        UserError: `out` exists and isn't a store of this source and contract, there are no cases or none is usable,
            `processes` is less than 1, the disk is full, memory ran out, or images leak.
    """
    refuse_url(out)
    if not cases:
        raise UserError(f"{source} holds no cases to prepare")
    if processes is not None and processes < 1:
        raise UserError(f"{processes} processes can't prepare anything; give 1 or more")
    root = _common_folder(cases)
    unique, twins = _unique_ids(cases, root)
    replaced = [[int(old), int(new)] for old, new in sorted((label_values or {}).items())]
    extra: dict[str, Any] = {LABEL_VALUES: replaced} if replaced else {}
    with _telling_of_the_disk(out):
        existing = open_existing(out, preprocessing, source, replaced)
        identity = {"format": FORMAT, "preprocessing": asdict(preprocessing), "source": source, **extra}
        with workplace(out, identity) as place:
            todo, kept = _plan(unique, existing, place)
            resumed = len(place.done)
            refused = [*twins]
            advance = progress(len(todo)) if progress is not None else _do_nothing
            if processes is None:
                processes = usual_processes(todo)
            work = partial(
                _prepare_one,
                folder=place.path.absolute(),
                root=root,
                preprocessing=preprocessing,
                label_values=label_values or {},
            )
            with _outcomes(work, todo, processes, dask) as outcomes:
                for case_id, done, refusal in outcomes:
                    if done is not None:
                        _check_arrival(place, case_id, dask)
                        place.record(*done)
                    if refusal is not None:
                        refused.append(refusal)
                    advance()
            refused.sort(key=lambda item: item["file"])
            prepared = len(place.done) - resumed
            if not place.done and not kept and not existing.ids:
                place.remove()
                first = f"{refused[0]['file']}: {refused[0]['reason']}"
                raise UserError(f"none of the {len(cases)} cases of {source} can be used; the first, {first}")
            manifest = {
                "format": FORMAT,
                "source": source,
                "preprocessing": asdict(preprocessing),
                "refused": refused,
                "written_by": f"gvsl {version('gvsl')}",
                **extra,
            }
            _publish(place, existing, kept, unique, root, manifest, label_names or {}, allow_leakage)
    if tell is not None:
        listed = {case.id for case in unique}
        tell(
            Work(
                prepared,
                changed=len(existing.ids.intersection(case.id for case in todo).intersection(place.done)),
                resumed=resumed,
                kept=len(kept),
                refused=len(refused),
                stale=tuple(sorted(case.id for case in todo if case.id in existing.ids and case.id not in place.done)),
                gone=tuple(sorted(existing.ids - listed)),
            )
        )
    return Store.open(out)


def _plan(cases: Sequence[Case], existing: Existing, place: Workplace) -> tuple[list[Case], dict[str, Origin]]:
    """The cases to prepare, and those that the store has as they are; what is done and has changed is forgotten."""
    todo, kept, done = [], {}, {}
    for case in cases:
        row, before = place.done.get(case.id, (None, None))
        same = None if before is None else unchanged(case, before)
        if row is not None and same is not None:
            done[case.id] = row, same
            continue
        before = existing.origin(case.id)
        same = None if before is None else unchanged(case, before)
        if same is None:
            todo.append(case)
        else:
            kept[case.id] = same
    place.done = done
    return todo, kept


def _publish(
    place: Workplace,
    existing: Existing,
    kept: Mapping[str, Origin],
    cases: Sequence[Case],
    root: Path,
    manifest: dict[str, Any],
    names: Mapping[int, str],
    allow_leakage: bool,
) -> None:
    """Put what was kept and what was done together, and make the store of it; nothing, if it is that already."""
    by_id = {case.id: case for case in cases}
    values: set[int] = set()
    lines, origins, entries = [], [], []
    ids: dict[str, set[str]] = {"images": set(), "labels": set()}
    for case_id in sorted(existing.ids | kept.keys() | place.done.keys()):
        if case_id in place.done:
            row, origin = place.done[case_id]
            ids["images"].add(case_id)
            if row["labels"] is not None:
                ids["labels"].add(case_id)
        else:
            row = existing.row(case_id)
            origin = kept.get(case_id) or existing.origins[case_id]
        if case_id in by_id:
            row = _told(by_id[case_id], root, row)
        values.update(row["labels"] or ())
        lines.append(row_line(row))
        entries.append((case_id, tuple(row["splits"]), row.get("content", "")))
        origins.append(origin.line())
    if not allow_leakage:
        refuse_leakage(entries)
    manifest = {**manifest, "label_names": _complete_names(values, names, existing.label_names)}
    whole = b"".join(lines)
    texts = {
        CASES_NAME: whole,
        SOURCES_NAME: b"".join(origins),
        MANIFEST_NAME: manifest_text(manifest, whole).encode(),
    }
    if existing.holds(texts) and not place.done:
        place.remove()
    else:
        place.publish(texts, ids)


def _outcomes(
    work: Callable[[Case], Outcome], cases: Sequence[Case], processes: int, dask: str | None
) -> AbstractContextManager[Iterable[Outcome]]:
    if dask is not None and cases:  # whose workers were started elsewhere
        whole = [_absolute(case) for case in cases]
        return on_dask(work, whole, dask)
    return in_this_machine(work, cases, min(processes, max(1, len(cases))))


def _absolute(case: Case) -> Case:
    label, mask = (path and path.absolute() for path in (case.label, case.mask))
    return replace(case, image=case.image.absolute(), label=label, mask=mask)


def _check_arrival(place: Workplace, case_id: str, dask: str | None) -> None:
    if dask is not None and not image_path(place.path / "store", case_id).is_file():
        raise UserError(
            f"a worker of {dask} wrote {case_id}, but it isn't in {place.path}; name a folder that all machines share"
        )


def _prepare_one(
    case: Case, folder: Path, root: Path, preprocessing: Preprocessing, label_values: Mapping[int, int]
) -> Outcome:
    """Write one case's arrays and return its row of the manifest, or why it can't be used."""
    current = whole = _first(case)
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
            current = whole
        ready, ready_label, lost = preprocess(upright, label, preprocessing, mask)
    except UnusableFile as error:
        return case.id, None, {"file": _relative(current, root), "reason": str(error)}
    except MemoryError:
        return case.id, None, {"file": _relative(current, root), "reason": "is larger than the memory that is free"}
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
        **({"without_air": True} if airless else {}),
    }
    image_stamp, label_stamp = before
    return case.id, (_told(case, root, row), Origin(case.id, image_stamp, label_stamp, tuple(sizes))), None


def _first(case: Case) -> Path:
    """The file that stands for a case's image: itself, or the first of a DICOM series."""
    return case.image / case.parts[0] if case.parts else case.image


def _told(case: Case, root: Path, row: Row) -> Row:
    """A row with what is known of a case without its voxels; that can change while the files stay the same."""
    told: Row = {"splits": list(case.splits), "source": _relative(_first(case), root)}
    if case.target is not None:
        told["target"] = case.target
    return {name: value for name, value in row.items() if name != "target"} | told


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


def _complete_names(values: set[int], names: Mapping[int, str], earlier: Mapping[int, str]) -> dict[str, str]:
    """A name for every value that was given one or that occurs."""
    given = {int(value) for value in names if int(value) != 0}
    known = {**earlier, **names}
    return {str(value): known.get(value, f"label {value}") for value in sorted(values | given)}


@contextmanager
def _telling_of_the_disk(out: Path) -> Iterator[None]:
    """Say in one line why `out` can't be written; what can't be read has been refused by then."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{out} can't be written: {error.strerror or error}") from None


def _stamps(case: Case) -> tuple[Stamp, Stamp | None]:
    """What a case's files are like, before they are read: if they change meanwhile, the next run sees it."""
    try:
        return case_stamps(case, content=True)
    except OSError:  # said by whoever reads it next, and better
        return Stamp(0, 0), None if case.label is None else Stamp(0, 0)


def _do_nothing() -> None:
    """Stand in for a progress that nobody asked for."""


def _common_folder(cases: Sequence[Case]) -> Path:
    files = [path.absolute() for case in cases for path in (case.image, case.label, case.mask) if path]
    return Path(os.path.commonpath([file.parent for file in files]))


def _relative(path: Path, root: Path) -> str:
    name = path.absolute().relative_to(root).as_posix()
    return name.encode("utf-8", "backslashreplace").decode()  # a name may be no text


def _grids(label: Volume, image: Volume) -> str:
    sizes = [" x ".join(str(size) for size in volume.array.shape) for volume in (label, image)]
    return f"{sizes[0]} against {sizes[1]}" if sizes[0] != sizes[1] else "same shape, another place in space"
