"""What a run of `prepare` has to do, of all that it was given."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gvsl.cases import Case
from gvsl.preparation.case import Refusal, relative
from gvsl.preparation.existing import Existing
from gvsl.preparation.sources import Origin, unchanged
from gvsl.preparation.staging import Workplace
from gvsl.store.names import safe_id


def plan(cases: Sequence[Case], existing: Existing, place: Workplace) -> tuple[list[Case], dict[str, Origin]]:
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


def unique_ids(cases: Sequence[Case], root: Path) -> tuple[list[Case], list[Refusal]]:
    """The cases with ids that are safe as file names; of two that share one, the later is refused."""
    kept: dict[str, Case] = {}
    refused = []
    for case in cases:
        safe = replace(case, id=safe_id(case.id))
        key = safe.id.casefold()  # some file systems don't tell A from a
        if key in kept:
            reason = f"its id {safe.id} is that of {relative(kept[key].image, root)} already; rename one of them"
            refused.append({"file": relative(case.image, root), "reason": reason})
        else:
            kept[key] = safe
    return list(kept.values()), refused


def common_folder(cases: Sequence[Case]) -> Path:
    """The deepest folder that holds all files of the cases."""
    files = [path.absolute() for case in cases for path in (case.image, case.label, case.mask) if path]
    return Path(os.path.commonpath([file.parent for file in files]))
