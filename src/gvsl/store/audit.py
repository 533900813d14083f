"""Leakage audit: images under several names, found by their voxels."""

import hashlib
from collections.abc import Iterable, Sequence
from itertools import permutations

import numpy as np

from gvsl.errors import UserError
from gvsl.io import Volume
from gvsl.splits import HELD_OUT, SPLITS
from gvsl.text import few

SLABS = 16
"""Planes hashed at a time."""
TRAINED = set(SPLITS) - set(HELD_OUT)

Entry = tuple[str, tuple[str, ...], str]
"""A case's id, its splits, and its content hash, empty if unknown."""


def content_hash(upright: Volume) -> str:
    """Return the SHA-256, in hex, of the shape and voxels of a float32 volume in RAS+ order.

    Geometry, file format, axis order and compression don't matter, so a copy with an edited header has the same hash.
    """
    array = upright.array
    digest = hashlib.sha256(np.array(array.shape, "<i8").tobytes())
    for start in range(0, array.shape[2], SLABS):  # in Fortran order, as in most files
        slab = np.ascontiguousarray(array[:, :, start : start + SLABS].T, "<f4")
        digest.update((slab + np.float32(0)).data)  # -0 is 0
    return digest.hexdigest()


def channels_hash(channels: Sequence[Volume]) -> str:
    """Return the hash of an image's voxels, of several channels that over their hashes, in order."""
    hashes = [content_hash(channel) for channel in channels]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def duplicates(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Return the groups of cases with the same image, sorted by id."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry[2]:
            found.setdefault(entry[2], []).append(entry)
    return sorted(sorted(group) for group in found.values() if len(group) > 1)


def find_leakage(entries: Iterable[Entry]) -> list[tuple[Entry, Entry]]:
    """Return pairs of cases with the same image, the first trained on and the second held out, or in val and test.

    A case that is in both itself is paired with itself.
    """
    entries = list(entries)
    pairs = [(entry, entry) for entry in entries if _leaks(entry, entry)]
    for group in duplicates(entries):
        pairs += [(one, other) for one, other in permutations(group, 2) if _leaks(one, other)]
    return pairs


def _leaks(one: Entry, other: Entry) -> bool:
    trained = not TRAINED.isdisjoint(one[1]) and not set(HELD_OUT).isdisjoint(other[1])
    return trained or ("val" in one[1] and "test" in other[1])


def refuse_leakage(entries: Iterable[Entry]) -> None:
    """Refuse a store with held-out images that are also trained on, under any name.

    Raises:
        UserError: there are such images.
    """
    found = [describe_pair(*pair) for pair in find_leakage(entries)]
    if found:
        raise UserError(
            f"images are both trained on and held out, or in both val and test: {few(found, separator='; ')}; take "
            "each out of one of the splits, or give --allow-leakage"
        )


def refuse_seen(pretrained: Iterable[Entry], held_out: Iterable[Entry]) -> None:
    """Refuse to test on images of one store that are in the `pretrain` split of another.

    Raises:
        UserError: there are such images.
    """
    seen = {entry[2]: entry for entry in pretrained if entry[2] and "pretrain" in entry[1]}
    leaked = (entry for entry in held_out if set(HELD_OUT).intersection(entry[1]) and entry[2] in seen)
    found = [describe_pair(seen[entry[2]], entry) for entry in leaked]
    if found:
        raise UserError(
            f"{len(found)} images are pre-trained on and held out in another store: {few(found, separator='; ')}; take "
            "them out of pretrain, or out of the other store's val and test"
        )


def describe_pair(one: Entry, other: Entry) -> str:
    """Describe two cases with the same image, or one case in two splits."""
    if one == other:
        return f"{one[0]} is in {', '.join(one[1])}"
    return f"{one[0]} ({', '.join(one[1])}) is {other[0]} ({', '.join(other[1])})"
