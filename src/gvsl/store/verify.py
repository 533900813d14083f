"""Reading every array of a store, to find damage before a run does."""

from collections.abc import Callable
from dataclasses import dataclass, field

from gvsl.errors import UserError
from gvsl.store.arrays import has_checksums, voxel_hash
from gvsl.store.store import Store, StoredCase


@dataclass
class Verified:
    """What reading a store has found."""

    arrays: int = 0
    without: int = 0
    """Arrays of an earlier gvsl, without checksums of their chunks; their voxels are compared all the same."""
    damaged: list[str] = field(default_factory=list)
    """A line for each case that is not as it was written."""


def verify(store: Store, advance: Callable[[], object] = lambda: None) -> Verified:
    """Read every array of a store, and compare its checksums and the hash of its voxels.

    Of a store by URL, copies that are there already are compared, and replaced, which is told, if only they are wrong.

    Args:
        store: of any age; every store has the hashes.
        advance: called after each case.
    """
    found = Verified()
    for case in store.cases.values():
        try:
            _verify_case(store, case, found)
        except UserError as error:
            found.damaged.append(str(error))
        advance()
    return found


def _verify_case(store: Store, case: StoredCase, found: Verified) -> None:
    """Read a case's arrays; UserError if one is not as it was written."""
    files = store.files(case)
    found.arrays += len(files)
    if store.remote is not None:
        store.remote.check(files, case.hash)
        mark = case.hash
    else:
        mark = voxel_hash(files)
    found.without += sum(not has_checksums(file.path) for file in files)
    if mark != case.hash:
        raise UserError(f"{case.id}: its voxels don't have the hash in {store.place}/cases.jsonl; prepare it again")
