"""The names of the splits of a dataset, and samples of their cases."""

import hashlib
from collections.abc import Sequence

HELD_OUT = ("val", "test")
"""The splits that are scored, and never trained on."""
SPLITS = ("pretrain", "train", *HELD_OUT)
"""All splits. A `train` case is usually in `pretrain` too; a `val` or `test` case never is."""


def some_of(ids: Sequence[str], count: int | None) -> list[str]:
    """Return at most `count` ids, drawn at random and sorted: the same ones in every call, whatever their order.

    >>> some_of(["c", "a", "b"], 2)
    ['b', 'c']
    """
    if count is None or count >= len(ids):
        return sorted(ids)
    return sorted(sorted(ids, key=lambda case: hashlib.sha256(case.encode()).digest())[:count])
