"""Reading every array of a store, to find damage before a run does."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gvsl.errors import UserError
from gvsl.store.arrays import IMAGE_TYPES, LABEL_TYPES, has_checksums
from gvsl.store.store import Store, StoredCase, image_path, label_path


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
    kinds: list[tuple[Path, tuple[int, ...], tuple[str, ...]]] = [
        (image_path(store.path, case.id), store.array_shape(case), IMAGE_TYPES)
    ]
    if case.label_values is not None:
        kinds.append((label_path(store.path, case.id), case.shape, LABEL_TYPES))
    digest = hashlib.sha256()
    for path, shape, types in kinds:
        found.arrays += 1
        digest.update(store.array(path, shape, None, types).tobytes())
        found.without += not has_checksums(path)
    if digest.hexdigest() != case.hash:
        raise UserError(f"{case.id}: its voxels don't have the hash in {store.place}/cases.jsonl; prepare it again")
