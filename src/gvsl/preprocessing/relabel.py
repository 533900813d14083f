"""Mapping of label values in files to those in a store."""

from collections.abc import Mapping

import numpy as np

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
