"""The leakage audit: the same image under two names, found by its voxels and not by its name."""

import hashlib
from collections.abc import Iterable
from itertools import permutations

import numpy as np

from gvsl.errors import UserError
from gvsl.io import Volume

SLABS = 16
"""Planes that are hashed at a time."""
NAMED = 3
"""How many of many pairs a message names."""
LEARNT = {"pretrain", "train"}

Entry = tuple[str, tuple[str, ...], str]
"""A case's id, its splits, and the hash of its content, empty where it isn't known."""


def content_hash(upright: Volume) -> str:
    """SHA-256, in hex, of the shape and the voxels of a float32 volume in RAS+ order.

    Not of its place or spacing: a copy of an image stays one if only its header was changed. The format, the order
    of the axes in the file and its compression make no difference.
    """
    array = upright.array
    digest = hashlib.sha256(np.array(array.shape, "<i8").tobytes())
    for start in range(0, array.shape[2], SLABS):  # the first axis fastest, as most files have it
        slab = np.ascontiguousarray(array[:, :, start : start + SLABS].T, "<f4")
        digest.update((slab + np.float32(0)).data)  # -0 is 0
    return digest.hexdigest()


def duplicates(entries: Iterable[Entry]) -> list[list[Entry]]:
    """The cases that hold one image, for each image that more than one holds; sorted by id."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry[2]:
            found.setdefault(entry[2], []).append(entry)
    return sorted(sorted(group) for group in found.values() if len(group) > 1)


def leaks(entries: Iterable[Entry]) -> list[tuple[Entry, Entry]]:
    """Pairs of cases that hold one image, the first learnt from and the second held out, or one in val, one in test.

    A case that is in such splits itself makes a pair with itself.
    """
    entries = list(entries)
    pairs = [(entry, entry) for entry in entries if _leaks(entry, entry)]
    for group in duplicates(entries):
        pairs += [(one, other) for one, other in permutations(group, 2) if _leaks(one, other)]
    return pairs


def _leaks(one: Entry, other: Entry) -> bool:
    learnt = not LEARNT.isdisjoint(one[1]) and not {"val", "test"}.isdisjoint(other[1])
    return learnt or ("val" in one[1] and "test" in other[1])


def refuse_leakage(entries: Iterable[Entry]) -> None:
    """Refuse a store whose held-out images were seen before, under another name or their own.

    Raises:
        UserError: it is one.
    """
    found = leaks(entries)
    if found:
        named = "; ".join(told(*pair) for pair in found[:NAMED])
        more = f"; and {len(found) - NAMED} more" if len(found) > NAMED else ""
        raise UserError(
            f"images that are held out are learnt from, or in both val and test: {named}{more}; take each out of one "
            "of the splits, or give --allow-leakage"
        )


def refuse_seen(learnt: Iterable[Entry], held_out: Iterable[Entry]) -> None:
    """Refuse to pre-train on one store's `pretrain` split and to test on another that holds one of its images out.

    Raises:
        UserError: an image is in both.
    """
    seen = {entry[2]: entry for entry in learnt if entry[2] and "pretrain" in entry[1]}
    found = [
        (seen[entry[2]], entry) for entry in held_out if {"val", "test"}.intersection(entry[1]) and entry[2] in seen
    ]
    if found:
        named = "; ".join(told(*pair) for pair in found[:NAMED])
        raise UserError(
            f"{len(found)} images are pre-trained on and held out elsewhere: {named}; take them out of pretrain, or "
            "out of the other store's val and test"
        )


def told(one: Entry, other: Entry) -> str:
    """Two cases that hold one image, or one case in two splits, in words."""
    if one == other:
        return f"{one[0]} is in {', '.join(one[1])}"
    return f"{one[0]} ({', '.join(one[1])}) is {other[0]} ({', '.join(other[1])})"
