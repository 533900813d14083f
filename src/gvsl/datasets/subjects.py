"""The subjects that cases are of, as far as the layout or the files tell; none is to be in two splits."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gvsl.cases import Case
from gvsl.text import few

BIDS = re.compile(r"sub-[a-zA-Z0-9]+")
NUMBERED = re.compile(r"(?:subject|subj|sub|patient|pat|case)[-_ ]?\d+", re.IGNORECASE)
"""Folders that are one person each, as in ACDC."""
STEM = re.compile(rf"({BIDS.pattern}|(?:subject|subj|patient|pat)[-_ ]?\d+)(?:_|$)", re.IGNORECASE)
"""File names that begin with a subject."""
Splits = Mapping[str, Sequence[str]]


def subject_of(folders: Sequence[str], stem: str) -> str:
    """Return the subject that a path names: a BIDS subject or a numbered folder, with what lies above; else none.

    >>> subject_of(["sub-01", "ses-02", "anat"], "sub-01_ses-02_T1w"), subject_of([], "a")
    ('sub-01', '')
    """
    for index, part in enumerate(folders):
        named = BIDS.fullmatch(part) and (stem.startswith(f"{part}_") or any(map(str.isdigit, part)))
        if named or NUMBERED.fullmatch(part):
            return "/".join(folders[: index + 1])
    found = STEM.match(stem)
    return "/".join([*folders, found[1]]) if found else ""


def subjects_of(ids: Sequence[str]) -> dict[str, str]:
    """Return the subjects of ids that name one."""
    found = {case_id: subject_of((), case_id) for case_id in ids}
    return {case_id: subject for case_id, subject in found.items() if subject}


def with_shared_labels(cases: Sequence[Case]) -> list[Case]:
    """Return the cases, those that share a label map as one subject."""
    subjects: dict[Path, str] = {}
    users = Counter(case.label for case in cases)
    for case in cases:
        if case.label is not None and users[case.label] > 1:
            subjects[case.label] = subjects.get(case.label) or case.subject or f"label {case.label}"
    return [
        case if case.label is None else replace(case, subject=subjects.get(case.label, case.subject)) for case in cases
    ]


def across_splits(cases: Sequence[Case], splits: Splits) -> str:
    """Describe pairs of cases of one subject, one trained on and the other held out or one in val and one in test.

    Args:
        cases: with their subjects.
        splits: names of the splits by id.

    Returns:
        the pairs, empty if there are none.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        if case.subject:
            groups[case.subject].append(case.id)
    pairs = []
    for ids in groups.values():
        trained, val, test = (
            [name for name in ids if not parts.isdisjoint(splits.get(name, ()))]
            for parts in ({"pretrain", "train"}, {"val"}, {"test"})
        )
        sides = [side[0] for side in (trained, val, test) if side]
        if len(set(sides)) > 1:
            pairs.append(" and ".join(f"{name} ({', '.join(splits[name])})" for name in dict.fromkeys(sides)))
    return few(pairs, separator="; ")
