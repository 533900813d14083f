"""From files on disk to a store: every volume read, checked, preprocessed and written once."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gvsl.cases import Case
from gvsl.errors import UserError
from gvsl.preparation.case import Outcome, Refusal, prepare_case
from gvsl.preparation.existing import open_existing
from gvsl.preparation.plan import common_folder, plan, unique_ids
from gvsl.preparation.publish import publish
from gvsl.preparation.staging import Workplace, workplace
from gvsl.preparation.summary import Work, work_done
from gvsl.preparation.workers import in_this_machine, on_dask, usual_processes
from gvsl.preprocessing.lungmask import require_lungmask
from gvsl.preprocessing.spec import Preprocessing, preprocessing_values
from gvsl.progress import Advance
from gvsl.store.manifest import FORMAT, LABEL_VALUES
from gvsl.store.names import refuse_url
from gvsl.store.store import Store, image_path


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
        allow_leakage: take images that are learnt from and held out, under one name or two, or in val and test.
        progress: given how many cases there are to prepare, returns what is called once for each that is done with.
        tell: is called at the end with what was done.

    Raises:
        UserError: `out` exists and isn't a store of this source and contract, there are no cases or none is usable,
            `processes` is less than 1, the disk is full, memory ran out, images leak, or the contract asks for
            lungmask and that isn't there.
    """
    refuse_url(out)
    if not cases:
        raise UserError(f"{source} holds no cases to prepare")
    if processes is not None and processes < 1:
        raise UserError(f"{processes} processes can't prepare anything; give 1 or more")
    root = common_folder(cases)
    unique, twins = unique_ids(cases, root)
    values = {int(old): int(new) for old, new in sorted((label_values or {}).items())}
    replaced = [list(pair) for pair in values.items()]
    extra: dict[str, Any] = {LABEL_VALUES: replaced} if replaced else {}
    known = {"format": FORMAT, "source": source, "preprocessing": preprocessing_values(preprocessing)}
    with _telling_of_the_disk(out):
        existing = open_existing(out, preprocessing, source, replaced)
        with workplace(out, {**known, **extra}) as place:
            todo, kept = plan(unique, existing, place)
            if dask is None and any(case.mask is None for case in todo):
                require_lungmask(preprocessing)
            resumed = len(place.done)
            work = partial(
                prepare_case,
                folder=place.path.absolute(),
                root=root,
                preprocessing=preprocessing,
                label_values=values,
            )
            advance = progress(len(todo)) if progress is not None else _do_nothing
            refused = [*twins, *_work_through(work, todo, place, processes, dask, advance)]
            refused.sort(key=lambda item: item["file"])
            if not place.done and not kept and not existing.ids:
                place.remove()
                first = f"{refused[0]['file']}: {refused[0]['reason']}"
                raise UserError(f"none of the {len(cases)} cases of {source} can be used; the first, {first}")
            manifest = {**known, "refused": refused, "written_by": f"gvsl {version('gvsl')}", **extra}
            publish(place, existing, kept, unique, root, manifest, label_names or {}, allow_leakage)
    if tell is not None:
        tell(work_done(unique, todo, set(place.done), resumed, len(refused), existing))
    return Store.open(out)


def _work_through(
    work: Callable[[Case], Outcome],
    todo: Sequence[Case],
    place: Workplace,
    processes: int | None,
    dask: str | None,
    advance: Advance,
) -> list[Refusal]:
    """Prepare each case, write down what is done, and return what is refused."""
    refused = []
    with _outcomes(work, todo, usual_processes(todo) if processes is None else processes, dask) as outcomes:
        for case_id, done, refusal in outcomes:
            if done is not None:
                _check_arrival(place, case_id, dask)
                place.record(*done)
            if refusal is not None:
                refused.append(refusal)
            advance()
    return refused


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


@contextmanager
def _telling_of_the_disk(out: Path) -> Iterator[None]:
    """Say in one line why `out` can't be written; what can't be read has been refused by then."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{out} can't be written: {error.strerror or error}") from None


def _do_nothing() -> None:
    """Stand in for a progress that nobody asked for."""
