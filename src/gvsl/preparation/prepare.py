"""Preparation of a store from files: every volume is read, checked, preprocessed and written once."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from gvsl.cases import Case
from gvsl.errors import UserError
from gvsl.files import refuse_url
from gvsl.preparation.case import Outcome, Refusal, prepare_case, update_row, with_subject
from gvsl.preparation.existing import ExistingStore, open_existing
from gvsl.preparation.plan import (
    PrepareSummary,
    common_folder,
    first_of_subjects,
    placeholder,
    plan,
    refuse_other_names,
    summarise,
    unique_ids,
    with_known_ids,
)
from gvsl.preparation.sources import Origin
from gvsl.preparation.staging import SOURCES_NAME, StagingArea, staging_area
from gvsl.preparation.workers import are_few, default_processes, run_locally, run_on_dask
from gvsl.preprocessing.lungs import require_lungmask
from gvsl.preprocessing.spec import Preprocessing, preprocessing_values
from gvsl.progress import Advance
from gvsl.store.audit import refuse_leakage
from gvsl.store.manifest import CASES_NAME, FORMAT, LABEL_VALUES, MANIFEST_NAME, manifest_text
from gvsl.store.store import Store, image_path
from gvsl.store.table import row_line
from gvsl.text import printable
from gvsl.version import __version__


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
    on_done: Callable[[PrepareSummary], None] | None = None,
) -> Store:
    """Prepare `cases` into a store at `out`; add what is missing or has changed to an existing store.

    A case with unusable files is left out and listed with the reason. The store appears whole or not at all. An
    interrupted run continues from OUT.partial when it is called again. Nothing is removed from an existing store,
    and its preprocessing, label values and source must be the same.

    Args:
        cases: all cases of the source.
        out: the store's folder.
        preprocessing: of every volume.
        label_names: name of each label value of the store, "ignore" for voxels that training and scores leave out; a
            label map with another value is refused. "label N" if there are none.
        label_values: from the label values in the files to those in the store; unchanged if empty.
        source: name of the cases' dataset.
        processes: number of processes; None for one per core, as far as memory allows.
        dask: address of a Dask scheduler, to use its cluster instead.
        allow_leakage: accept images that are trained on and held out, under any name, or in both val and test.
        progress: given the number of cases to prepare, returns a function to call after each.
        on_done: called with the summary at the end.

    Raises:
        UserError: `out` is no store of this source and preprocessing, there are no usable cases, `processes` is less
            than 1, the disk or memory is full, images leak, or lungmask is needed and missing.
    """
    refuse_url(out)
    source = printable(source)  # a folder's name may be no valid Unicode, which can't be printed
    if not cases:
        raise UserError(f"{source} holds no cases to prepare")
    if processes is not None and processes < 1:
        raise UserError(f"{processes} processes can't prepare anything; give 1 or more")
    root = common_folder(cases)
    unique, duplicates = unique_ids(cases, root)
    names = {int(value): name for value, name in (label_names or {}).items()}
    values = {int(old): int(new) for old, new in sorted((label_values or {}).items())}
    replaced = [list(pair) for pair in values.items()]
    extra: dict[str, Any] = {LABEL_VALUES: replaced} if replaced else {}
    known = {"format": FORMAT, "source": source, "preprocessing": preprocessing_values(preprocessing)}
    with _wrap_write_errors(out):
        existing = open_existing(out, preprocessing, source, replaced)
        unique = with_known_ids(unique, existing)
        usable = {case.id for case in unique if not case.unusable}
        refuse_other_names(map(existing.row, sorted(existing.ids - usable)), existing.label_names, names)
        with staging_area(out, {**known, **extra, **_named(names)}) as staging:
            todo, kept = plan(unique, existing, staging, names)
            if dask is None and any(case.mask is None for case in todo):
                require_lungmask(preprocessing)
            resumed = len(staging.done)
            work = partial(
                prepare_case,
                folder=staging.path.absolute(),
                root=root,
                preprocessing=preprocessing,
                label_values=values,
                label_names=names,
            )
            advance = progress(len(todo)) if progress is not None else lambda: None
            refused = [*duplicates, *_work_through(work, todo, staging, processes, dask, advance)]
            refused.sort(key=lambda item: item["file"])
            if not staging.done and not kept and not existing.ids:
                staging.remove()
                first = f"{refused[0]['file']}: {refused[0]['reason']}"
                raise UserError(f"none of the {len(cases)} cases of {source} can be used; the first, {first}")
            manifest = {**known, "refused": refused, "written_by": f"gvsl {__version__}", **extra}
            _publish(staging, existing, kept, unique, root, manifest, names, allow_leakage)
    if on_done is not None:
        on_done(summarise(unique, todo, set(staging.done), resumed, len(refused), existing))
    return Store.open(out)


def _work_through(
    work: Callable[[Case], Outcome],
    todo: Sequence[Case],
    staging: StagingArea,
    processes: int | None,
    dask: str | None,
    advance: Advance,
) -> list[Refusal]:
    """Prepare each case, record it in the journal, and return the refusals."""
    refused = []
    running: AbstractContextManager[Iterable[Outcome]]
    if dask is not None and todo:  # its workers have other working directories
        running = run_on_dask(work, [_absolute(case) for case in todo], dask)
    else:
        wanted = processes or (1 if are_few(todo) else default_processes(todo))
        running = run_locally(work, todo, min(wanted, max(1, len(todo))))
    with running as outcomes:
        for case_id, done, refusal in outcomes:
            if done is not None:
                _check_arrival(staging, case_id, dask)
                staging.record(*done)
            if refusal is not None:
                refused.append(refusal)
            advance()
    return refused


def _absolute(case: Case) -> Case:
    label, mask = (path and path.absolute() for path in (case.label, case.mask))
    channels = tuple(map(_absolute, case.channels))
    return replace(case, image=case.image.absolute(), label=label, mask=mask, channels=channels)


def _check_arrival(staging: StagingArea, case_id: str, dask: str | None) -> None:
    if dask is not None and not image_path(staging.path / "store", case_id).is_file():
        raise UserError(
            f"a worker of {dask} wrote {case_id}, but it isn't in {staging.path}; name a folder that all machines share"
        )


def _publish(
    staging: StagingArea,
    existing: ExistingStore,
    kept: Mapping[str, Origin],
    cases: Sequence[Case],
    root: Path,
    manifest: dict[str, Any],
    names: Mapping[int, str],
    allow_leakage: bool,
) -> None:
    """Combine kept and new cases and publish the store, unless nothing has changed."""
    by_id = {case.id: case for case in cases}
    all_ids = sorted(existing.ids | kept.keys() | staging.done.keys())
    subjects = first_of_subjects(cases, all_ids, existing.subjects)
    values: set[int] = set()
    lines, origins, entries, left = [], [], [], []
    ids: dict[str, set[str]] = {"images": set(), "labels": set()}
    for case_id in all_ids:
        if case_id in staging.done:
            row, origin = staging.done[case_id]
            ids["images"].add(case_id)
            if row["labels"] is not None:
                ids["labels"].add(case_id)
        else:
            row = existing.row(case_id)
            origin = kept.get(case_id) or existing.origins[case_id]
            if case_id not in kept:
                left.append(row)
        if case_id in by_id:
            row = update_row(row, by_id[case_id], root)
        row = with_subject(row, subjects.get(case_id, ""))
        values.update(row["labels"] or ())
        lines.append(row_line(row))
        entries.append((case_id, tuple(row["splits"]), row.get("content", "")))
        origins.append(origin.line())
    if not allow_leakage:
        refuse_leakage(entries)
    refuse_other_names(left, existing.label_names, names)
    manifest = {**manifest, "label_names": _complete_names(values, names, existing.label_names)}
    whole = b"".join(lines)
    texts = {CASES_NAME: whole, SOURCES_NAME: b"".join(origins), MANIFEST_NAME: manifest_text(manifest, whole).encode()}
    if existing.holds(texts) and not staging.done:
        staging.remove()
    else:
        staging.publish(texts, ids)


def _named(names: Mapping[int, str]) -> dict[str, Any]:
    """Return the entry of label names in the spec of a staging area; a run without names has none."""
    return {"label_names": {str(value): name for value, name in names.items()}} if names else {}


def _complete_names(values: set[int], names: Mapping[int, str], earlier: Mapping[int, str]) -> dict[str, str]:
    """Return a name for every value that occurs or was given one."""
    given = {value for value in names if value != 0}
    known = {**earlier, **names}
    return {str(value): known.get(value, placeholder(value)) for value in sorted(values | given)}


@contextmanager
def _wrap_write_errors(out: Path) -> Iterator[None]:
    """Turn an OSError into one line; unreadable files are refused elsewhere."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{out} can't be written: {error.strerror or error}") from None
