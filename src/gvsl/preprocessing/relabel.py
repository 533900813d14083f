"""Label values in files: mapped to those in a store, and refused if nobody said what they mean."""

from collections.abc import Mapping

import numpy as np

from gvsl.cases import IGNORE
from gvsl.io import UnusableFile, Volume
from gvsl.text import few

NAMED = 5
"""Maximum number of values in a message."""


def relabelled(label: Volume, values: Mapping[int, int]) -> Volume:
    """Map every value of a label map by `values`, and 0 to 0; without any values, return it unchanged.

    Raises:
        UnusableFile: the label map has a value that isn't listed.
    """
    if not values:
        return label
    known = {0: 0, **values}
    found, indices = np.unique(label.array, return_inverse=True)
    odd = [str(value) for value in found if int(value) not in known]
    if odd:
        raise UnusableFile(f"has label values that the dataset doesn't list: {few(odd, NAMED)}")
    replaced = np.array([known[int(value)] for value in found])
    kind = np.uint8 if replaced.min() >= 0 and replaced.max() <= np.iinfo(np.uint8).max else np.int16
    return Volume(replaced.astype(kind)[indices].reshape(label.array.shape), label.affine)


def refuse_unnamed(label: Volume, names: Mapping[int, str]) -> None:
    """Refuse a label map with a value that isn't named, if any is, or else with one below 0.

    Such values are most often marks, such as "unlabelled" or "uncertain", and would be trained as structures.

    Args:
        label: with the values of the store.
        names: of the values, of structures and of what to ignore.

    Raises:
        UnusableFile: it has such a value.
    """
    found = [int(value) for value in np.unique(label.array) if value != 0]
    odd = [value for value in found if (value not in names if names else value < 0)]
    if not odd:
        return
    parts = [f"{value} ({np.count_nonzero(label.array == value)} voxels)" for value in odd]
    which = f"label values without a name: {few(parts, NAMED)}"
    if not names:
        which = f"label values below 0: {few(parts, NAMED)}"
    raise UnusableFile(
        f'has {which}; name each value in labels.json, {{"{odd[0]}": "{IGNORE}"}} to leave its voxels out of training '
        "and scores, or correct the label map"
    )
