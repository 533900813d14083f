"""Class indices of label values, the one way from a label map to the classes of a network."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gvsl.cases import IGNORED
from gvsl.errors import UserError
from gvsl.text import few

NAMED = 5
"""Maximum number of values in a message."""


def class_indices(label: NDArray[Any], structures: Sequence[int], ignored: Collection[int] = ()) -> NDArray[np.int64]:
    """Return the class of each voxel: 0 for the value 0, i for the i-th structure, IGNORED for the ignored values.

    Args:
        label: label values of any sign, of any shape.
        structures: the label value of each class from 1 on, in any order.
        ignored: label values of no class.

    Raises:
        UserError: a voxel has none of these values.
    """
    values = np.array([0, *structures, *ignored])
    classes = np.array([*range(1 + len(structures)), *[IGNORED] * len(ignored)])
    order = np.argsort(values, kind="stable")
    found = np.minimum(np.searchsorted(values[order], label), values.size - 1)
    unknown = values[order][found] != label
    if unknown.any():
        odd = [str(value) for value in np.unique(label[unknown])]
        raise UserError(f"a label map has values that are no structure: {few(odd, NAMED)}; prepare the store again")
    indices: NDArray[np.int64] = classes[order][found]
    return indices
