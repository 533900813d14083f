"""Label values as files have them to those that a store has."""

from collections.abc import Mapping

import numpy as np

from gvsl.io import UnusableFile, Volume

NAMED = 5
"""How many of many values a message names."""


def relabelled(label: Volume, values: Mapping[int, int]) -> Volume:
    """The label map with each value replaced by what `values` has for it, 0 by 0; as it is if `values` is empty.

    Raises:
        UnusableFile: it has a value that isn't listed.
    """
    if not values:
        return label
    known = {0: 0, **values}
    found, places = np.unique(label.array, return_inverse=True)
    odd = [int(value) for value in found if int(value) not in known]
    if odd:
        more = f" and {len(odd) - NAMED} more" if len(odd) > NAMED else ""
        raise UnusableFile(
            f"it has label values that the dataset doesn't list: {', '.join(map(str, odd[:NAMED]))}{more}"
        )
    replaced = np.array([known[int(value)] for value in found])
    kind = np.uint8 if replaced.min() >= 0 and replaced.max() <= np.iinfo(np.uint8).max else np.int16
    return Volume(replaced.astype(kind)[places].reshape(label.array.shape), label.affine)
