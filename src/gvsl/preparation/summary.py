"""What a run of `prepare` did, to be told."""

from collections.abc import Sequence
from dataclasses import dataclass

from gvsl.cases import Case
from gvsl.preparation.existing import Existing


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


def work_done(
    cases: Sequence[Case], todo: Sequence[Case], done: set[str], resumed: int, refused: int, existing: Existing
) -> Work:
    """What a run did.

    Args:
        cases: all that it was given.
        todo: those of them that it had to prepare.
        done: the ids of those that it or a run before it prepared.
        resumed: how many of those a run before it prepared.
        refused: how many files can't be used.
        existing: the store before it.
    """
    asked = {case.id for case in todo}
    return Work(
        prepared=len(done) - resumed,
        changed=len(existing.ids & asked & done),
        resumed=resumed,
        kept=len(cases) - len(asked | done),
        refused=refused,
        stale=tuple(sorted(existing.ids & asked - done)),
        gone=tuple(sorted(existing.ids - {case.id for case in cases})),
    )
