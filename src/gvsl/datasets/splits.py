"""Random splits that depend on the ids and a fixed seed only."""

from collections.abc import Mapping, Sequence

import numpy as np

from gvsl.errors import UserError

SEED = 0
"""Seed of all random splits; part of the datasets' definition, not a setting."""
FRACTIONS = {"train": 6, "val": 2, "test": 2}
"""Default split, in tenths, of datasets whose official test cases have no public labels."""
FOLDS = 5


def drawn(ids: Sequence[str], counts: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    """Draw the splits of each id; train cases are in pretrain too.

    Args:
        ids: in any order.
        counts: numbers of train, val and test cases, in this order. They are scaled to the number of ids, which is
            smaller for part of a dataset; no split becomes empty.

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


def one_fold(ids: Sequence[str], number: int, folds: int = FOLDS) -> dict[str, tuple[str, ...]]:
    """Return the splits of each id in one fold of a cross-validation: a part is test, the next val, the rest train.

    Args:
        ids: in any order.
        number: of the fold, from 0.
        folds: number of folds, 3 or more.

    Raises:
        UserError: there is no such fold, or there are fewer ids than folds.
    """
    if not 0 <= number < folds:
        raise UserError(f"there is no fold {number}: the folds are 0 to {folds - 1}")
    if len(ids) < folds:
        raise UserError(f"{len(ids)} cases can't be split into {folds} folds; complete the download")
    order = np.random.default_rng(SEED).permutation(sorted(ids))
    part = {str(case_id): index % folds for index, case_id in enumerate(order)}
    names = {number: "test", (number + 1) % folds: "val"}
    return {case_id: _with_pretrain(names.get(index, "train")) for case_id, index in part.items()}


def draw_or_fold(ids: Sequence[str], counts: Mapping[str, int], fold: int | None) -> dict[str, tuple[str, ...]]:
    """Draw the dataset's default splits, or return those of a fold of its cross-validation."""
    return drawn(ids, counts) if fold is None else one_fold(ids, fold)


def _with_pretrain(name: str) -> tuple[str, ...]:
    return ("pretrain", "train") if name == "train" else (name,)
