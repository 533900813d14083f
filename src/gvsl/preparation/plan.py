"""The plan of a run of `prepare`, which cases to process and which to keep, and the summary of its results."""

import hashlib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gvsl.cases import Case, is_ignored
from gvsl.errors import UserError
from gvsl.io import UnusableFile, holds_structures, name_key
from gvsl.preparation.case import Refusal, relative
from gvsl.preparation.existing import ExistingStore
from gvsl.preparation.sources import Origin, unchanged
from gvsl.preparation.staging import StagingArea

MAX_ID_BYTES = 100


@dataclass(frozen=True)
class PrepareSummary:
    """Results of one call of `prepare`."""

    prepared: int
    """Number of cases that were read, preprocessed and written."""
    changed: int
    """Number of these that replaced a case of the store because its files had changed."""
    resumed: int
    """Number of cases that an interrupted run had prepared."""
    kept: int
    """Number of cases of the store with unchanged files."""
    refused: int
    """Number of files that can't be used."""
    stale: tuple[str, ...]
    """Ids of cases in the store whose files can't be used any more."""
    gone: tuple[str, ...]
    """Ids of cases in the store that the source no longer has."""


def summarise(
    cases: Sequence[Case], todo: Sequence[Case], done: set[str], resumed: int, refused: int, existing: ExistingStore
) -> PrepareSummary:
    """Summarise a run.

    Args:
        cases: all cases of the source.
        todo: those that the run had to prepare.
        done: ids of those that it or an interrupted run prepared.
        resumed: number of those that an interrupted run prepared.
        refused: number of files that can't be used.
        existing: the store before the run.
    """
    planned = {case.id for case in todo}
    return PrepareSummary(
        prepared=len(done) - resumed,
        changed=len(existing.ids & planned & done),
        resumed=resumed,
        kept=len(cases) - len(planned | done),
        refused=refused,
        stale=tuple(sorted(existing.ids & planned - done)),
        gone=tuple(sorted(existing.ids - {case.id for case in cases})),
    )


def plan(
    cases: Sequence[Case], existing: ExistingStore, staging: StagingArea, label_names: Mapping[int, str]
) -> tuple[list[Case], dict[str, Origin]]:
    """Return the cases to prepare, and the origins of those to keep; drop staged cases whose files have changed.

    A case is also prepared again, or refused again, if it is known to be unusable, has a value that has no name any
    more, or takes its structures by name and the names of its values have changed.
    """
    todo, kept, done = [], {}, {}
    for case in cases:
        row, origin = staging.done.get(case.id, (None, None))
        current = None if origin is None else unchanged(case, origin)
        if row is not None and current is not None and not case.unusable:
            done[case.id] = row, current
            continue
        origin = existing.origin(case.id)
        current = None if origin is None else unchanged(case, origin)
        if current is None or case.unusable or _is_named_otherwise(case, existing, label_names):
            todo.append(case)
        else:
            kept[case.id] = current
    staging.done = done
    return todo, kept


def _is_named_otherwise(case: Case, existing: ExistingStore, names: Mapping[int, str]) -> bool:
    """Return True if a case of a store has a value without a name, or structures that would now get other values."""
    old, new = ({value: name_key(name) for value, name in each.items()} for each in (existing.label_names, names))
    changed = {value for value in {*old, *new} - {0} if old.get(value) != new.get(value)}
    if case.label is None or not changed:
        return False
    own = set(existing.row(case.id)["labels"] or ())
    if new and not own <= new.keys():
        return True
    if changed.isdisjoint(new.keys() | own):
        return False  # names that are gone, of values that it doesn't have
    try:
        return holds_structures(case.label)
    except UnusableFile:  # reported when it is read
        return True


def refuse_other_names(rows: Iterable[Mapping[str, Any]], old: Mapping[int, str], new: Mapping[int, str]) -> None:
    """Refuse to give the values of cases that can't be prepared again other names, or one that another value gets.

    Args:
        rows: of these cases.
        old: names in the store so far.
        new: those that change or come in addition.

    Raises:
        UserError: a case would hold one structure under the name of another.
    """
    before, after = _values_by_name(old), _values_by_name({**old, **new})
    for row in rows:
        for value in row["labels"] or ():
            earlier, now = old.get(value, ""), new.get(value, old.get(value, ""))
            if is_ignored(now) or earlier == placeholder(value):
                continue
            if name_key(earlier) != name_key(now) or after[name_key(now)] - before[name_key(now)]:
                raise UserError(
                    f"case {row['id']} is gone or can't be prepared again, and its label value {value} was "
                    f"{earlier!r}, which would be {now!r} or the name of another value too: mend or restore its "
                    "files, or prepare into another store"
                )


def _values_by_name(names: Mapping[int, str]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = defaultdict(set)
    for value, name in names.items():
        found[name_key(name)].add(value)
    return found


def placeholder(value: int) -> str:
    """Return the name of a label value that was given none."""
    return f"label {value}"


def unique_ids(cases: Sequence[Case], root: Path) -> tuple[list[Case], list[Refusal]]:
    """Make the ids safe as file names; refuse all but the first of the cases with the same one."""
    kept: dict[str, Case] = {}
    refused = []
    for case in cases:
        safe = replace(case, id=safe_id(case.id))
        key = safe.id.casefold()  # some file systems ignore case
        if key in kept:
            reason = f"its id {safe.id} is already used by {relative(kept[key].image, root)}; rename one of them"
            refused.append({"file": relative(case.image, root), "reason": reason})
        else:
            kept[key] = safe
    return list(kept.values()), refused


def first_of_subjects(cases: Sequence[Case], ids: Collection[str], earlier: Mapping[str, str]) -> dict[str, str]:
    """Return, for each case that is not the only one of its subject, the id of the subject's first case.

    A store thus tells which cases show the same person without the PatientID.

    Args:
        cases: of the source, with their subjects.
        ids: of all cases of the store; some may be gone from the source, and some of the source can't be used.
        earlier: the same as the store tells so far.

    >>> cases = [Case(name, Path(name), subject="patient 1") for name in ("b", "c")]
    >>> first_of_subjects(cases, ["a", "b", "c"], {"a": "a", "b": "a"})
    {'a': 'a', 'b': 'a', 'c': 'a'}
    """
    current = {case.id: case.subject for case in cases}
    groups: dict[str, set[str]] = defaultdict(set)
    for case_id, subject in current.items():
        if subject and case_id in ids:
            groups[subject].add(case_id)
    known = {first: current[case_id] for case_id, first in earlier.items() if current.get(case_id)}
    for case_id, first in earlier.items():
        if case_id not in current:  # it is gone, and of whomever the others of its group are now
            groups[known.get(first, f"\0{first}")].add(case_id)
    return {case_id: min(group) for group in groups.values() if len(group) > 1 for case_id in sorted(group)}


def with_known_ids(cases: Sequence[Case], existing: ExistingStore) -> list[Case]:
    """Give cases the ids of an earlier version by which a store knows them, so that none is stored twice.

    Of several cases with one such id it is that whose folder, but for the others' files, is as it was.
    """
    taken = {case.id for case in cases}
    heirs: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if case.former:
            heirs[safe_id(case.former)].append(case)
    known = {}
    for former, found in heirs.items():
        if former not in existing.ids or former in taken:
            continue
        if len(found) > 1:
            found = [case for case in found if unchanged(_alone(case, found), existing.origins[former]) is not None]
        if len(found) == 1 and found[0].id not in existing.ids:
            known[found[0].id] = former
    return [replace(case, id=known.get(case.id, case.id)) for case in cases]


def _alone(case: Case, all_of_folder: Sequence[Case]) -> Case:
    """Return a case of all files in its folder but those of the folder's other cases."""
    others = {case.image / part for other in all_of_folder if other is not case for part in other.parts}
    files = (path for path in case.image.rglob("*") if path.is_file() and path not in others)
    return replace(case, parts=tuple(path.relative_to(case.image).as_posix() for path in files))


def safe_id(name: str) -> str:
    """Replace everything but letters, digits, dots, hyphens and underscores, and limit the length.

    A shortened name ends in a hash of the original, so that distinct names stay distinct.

    >>> safe_id("../a b")
    '_._a_b'
    """
    plain = re.sub(r"[^\w.-]", "_", unicodedata.normalize("NFC", name))
    if plain.startswith((".", "-")):
        plain = "_" + plain[1:]
    if len(plain.encode()) > MAX_ID_BYTES:
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
        plain = plain.encode()[: MAX_ID_BYTES - 9].decode("utf-8", "ignore") + "-" + digest
    return plain or "_"


def common_folder(cases: Sequence[Case]) -> Path:
    """Return the deepest folder that contains all files of the cases."""
    sources = ((case.label, case.mask, *(each.image for each in case.images)) for case in cases)
    files = [path.absolute() for paths in sources for path in paths if path]
    return Path(os.path.commonpath([file.parent for file in files]))
