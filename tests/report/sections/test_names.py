"""Colours of structures, as people with each kind of colour vision tell them apart."""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from gvsl.report.sections.names import STRUCTURE_COLOURS, structure_colours

Array = NDArray[np.float64]

TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
VISIONS = {
    "usual": np.eye(3),
    "without green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "without red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}
"""What linear RGB looks like (Machado, Oliveira and Fernandes, 2009, severity 1)."""


def lab(colour: str, vision: str) -> Array:
    """A colour in CIELAB, D65, as it is seen."""
    coded = np.array([int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)])
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.asarray(VISIONS[vision]) @ linear, 0, 1) / np.array([0.95047, 1, 1.08883])
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_a_brain_has_a_colour_for_each_structure_and_everyone_tells_them_apart() -> None:
    colours = structure_colours(range(1, 29))
    assert len(set(colours.values())) == 28 == len(STRUCTURE_COLOURS)
    for vision in VISIONS:
        seen = [lab(colour, vision) for colour in colours.values()]
        assert min(float(np.linalg.norm(one - other)) for one, other in combinations(seen, 2)) > 15, vision


def test_further_structures_begin_again() -> None:
    assert structure_colours(range(29))[28] == STRUCTURE_COLOURS[0]
