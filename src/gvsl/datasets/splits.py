"""Random splits that depend on the ids and a fixed seed only."""

from collections.abc import Mapping, Sequence

import numpy as np

from gvsl.errors import UserError

SEED = 0
"""Seed of all random splits; part of the datasets' definition, not a setting."""
FRACTIONS = {"train": 6, "val": 2, "test": 2}
"""Default split, in tenths, of datasets whose official test cases have no public labels."""
FOLDS = 5


def drawn(
    ids: Sequence[str], counts: Mapping[str, int], subjects: Mapping[str, str] | None = None
) -> dict[str, tuple[str, ...]]:
    """Draw the splits of each id; train cases are in pretrain too, and cases of one subject in one split.

    Args:
        ids: in any order.
        counts: numbers of train, val and test cases, in this order. They are scaled to the number of ids, which is
            smaller for part of a dataset; no split becomes empty.
        subjects: of the ids that have one; a subject is drawn with all its cases.

    Raises:
        UserError: there are fewer ids, or subjects, than splits.
    """
    if subjects:
        return _expand(drawn(_units(ids, subjects), counts), ids, subjects)
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


def one_fold(
    ids: Sequence[str], number: int, folds: int = FOLDS, subjects: Mapping[str, str] | None = None
) -> dict[str, tuple[str, ...]]:
    """Return the splits of each id in one fold of a cross-validation: a part is test, the next val, the rest train.

    Args:
        ids: in any order.
        number: of the fold, from 0.
        folds: number of folds, 3 or more.
        subjects: of the ids that have one; a subject is in one part with all its cases.

    Raises:
        UserError: there is no such fold, or there are fewer ids, or subjects, than folds.
    """
    if subjects:
        return _expand(one_fold(_units(ids, subjects), number, folds), ids, subjects)
    if not 0 <= number < folds:
        raise UserError(f"there is no fold {number}: the folds are 0 to {folds - 1}")
    if len(ids) < folds:
        raise UserError(f"{len(ids)} cases can't be split into {folds} folds; complete the download")
    order = np.random.default_rng(SEED).permutation(sorted(ids))
    part = {str(case_id): index % folds for index, case_id in enumerate(order)}
    names = {number: "test", (number + 1) % folds: "val"}
    return {case_id: _with_pretrain(names.get(index, "train")) for case_id, index in part.items()}


def draw_or_fold(
    ids: Sequence[str], counts: Mapping[str, int], fold: int | None, subjects: Mapping[str, str] | None = None
) -> dict[str, tuple[str, ...]]:
    """Draw the dataset's default splits, or return those of a fold of its cross-validation."""
    return drawn(ids, counts, subjects) if fold is None else one_fold(ids, fold, subjects=subjects)


def _units(ids: Sequence[str], subjects: Mapping[str, str]) -> list[str]:
    """Return what is drawn: the first id of each subject, and the ids without one."""
    firsts: dict[str, str] = {}
    for case_id in sorted(ids):
        firsts.setdefault(subjects.get(case_id) or f"\0{case_id}", case_id)
    return list(firsts.values())


def _expand(
    drawn_units: Mapping[str, tuple[str, ...]], ids: Sequence[str], subjects: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Give all cases of a subject the splits of its first."""
    by_subject = {subjects.get(unit) or f"\0{unit}": found for unit, found in drawn_units.items()}
    return {case_id: by_subject[subjects.get(case_id) or f"\0{case_id}"] for case_id in ids}


def _with_pretrain(name: str) -> tuple[str, ...]:
    return ("pretrain", "train") if name == "train" else (name,)
