from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gvsl.io import Volume

AddCase = Callable[[Path, Path | None, list[int]], Volume]
SHAPE = (20, 18, 16)


@pytest.fixture
def add_case(write_volume: Callable[[Path, Volume], Path]) -> AddCase:
    """Write an image in HU and, if given its path, a label map with a block of each value; return the label map."""
    made: list[Path] = []

    def add(image: Path, label: Path | None, values: list[int]) -> Volume:
        draw = np.random.default_rng(len(made))
        made.append(image)
        affine = np.diag([-0.8, 0.8, 1.5, 1.0])
        affine[:3, 3] = draw.uniform(-50, 50, 3)
        grey = draw.integers(-900, 900, SHAPE).astype(np.int16)
        found = np.zeros(SHAPE, np.int16)
        for place, value in enumerate(values):
            found[3 + 2 * (place % 7) : 5 + 2 * (place % 7), 2:14, 2 + 3 * (place // 7) : 5 + 3 * (place // 7)] = value
        write_volume(image, Volume(grey, affine))
        if label is not None:
            write_volume(label, Volume(found, affine))
        return Volume(found, affine)

    return add
