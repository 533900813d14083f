"""Whom the cases of a store show, for pairs of two subjects."""

from collections.abc import Sequence

from gvsl.store import Store


def subjects_to_pair(store: Store, ids: Sequence[str]) -> list[str]:
    """Return the subject of each case, of which a pair has two; where all are of one, each case counts as its own."""
    found = store.subjects(ids)
    return found if len(set(found)) > 1 else list(ids)
