"""Splits that are drawn: by ids and seed alone, so that every machine draws the same."""

from collections.abc import Mapping, Sequence

import numpy as np

from gvsl.errors import UserError

SEED = 0
"""Of every split that is drawn; it is part of what a dataset is here, and no setting."""


def drawn(ids: Sequence[str], counts: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    """The splits of each id: so many in each of `counts`, by chance; what is trained on is pre-trained on too.

    Where there are fewer ids than the counts add up to (part of a download), the counts shrink in proportion, and none
    to nothing.

    Args:
        ids: in any order; only the set of them decides.
        counts: how many in train, val and test, in this order; they add up to those of the whole dataset.

    Raises:
        UserError: there are fewer ids than splits.
    """
    if len(ids) < len(counts):
        raise UserError(f"{len(ids)} cases can't be split into {', '.join(counts)}; complete the download")
    whole = sum(counts.values())
    ends = np.cumsum([max(1, round(count * len(ids) / whole)) for count in counts.values()])
    ends = np.minimum(ends, len(ids) - np.arange(len(ends))[::-1])
    ends[-1] = len(ids)
    order = np.random.default_rng(SEED).permutation(sorted(ids))
    found: dict[str, tuple[str, ...]] = {}
    for name, start, end in zip(counts, [0, *ends[:-1]], ends, strict=True):
        found |= {str(case_id): _with_pretrain(name) for case_id in order[start:end]}
    return found


def one_fold(ids: Sequence[str], number: int, folds: int) -> dict[str, tuple[str, ...]]:
    """The splits of each id in one fold of a cross-validation: a part is tested, the next validated, the rest trained.

    Args:
        ids: in any order; only the set of them decides.
        number: of the fold, from 0.
        folds: how many there are, 3 at least.

    Raises:
        UserError: there is no such fold, or there are fewer ids than folds.
    """
    if not 0 <= number < folds:
        raise UserError(f"there is no fold {number}: the folds are 0 to {folds - 1}")
    if len(ids) < folds:
        raise UserError(f"{len(ids)} cases can't be split into {folds} folds; complete the download")
    order = np.random.default_rng(SEED).permutation(sorted(ids))
    part = {str(case_id): place % folds for place, case_id in enumerate(order)}
    names = {number: "test", (number + 1) % folds: "val"}
    return {case_id: _with_pretrain(names.get(place, "train")) for case_id, place in part.items()}


def _with_pretrain(name: str) -> tuple[str, ...]:
    return ("pretrain", "train") if name == "train" else (name,)
