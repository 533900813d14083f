import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from gvsl.metrics.hausdorff import hd95_per_structure

SPACING = (1.0, 2.0, 0.5)


def surface(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The voxels of a mask with a face on what is not in it, in millimetres: (N, 3)."""
    padded = np.pad(mask, 1)
    inner = padded.copy()
    for axis in range(3):
        for shift in (-1, 1):
            inner &= np.roll(padded, shift, axis)
    return np.argwhere((padded & ~inner)[1:-1, 1:-1, 1:-1]) * np.array(SPACING)


def reference(found: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float:
    """The definition, every distance written out."""
    one, other = surface(found), surface(wanted)
    distances = np.linalg.norm(one[:, None] - other[None], axis=2)
    return float(max(np.percentile(distances.min(0), 95), np.percentile(distances.min(1), 95)))


def tensor(array: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(array)[None, None]


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_definition(seed: int) -> None:
    generator = np.random.default_rng(seed)
    points = np.indices((30, 14, 18))
    maps = []
    for _ in range(2):
        classes = np.zeros((30, 14, 18), np.int64)
        for structure in (1, 2):
            centre, radius = generator.uniform(5, 9, 3), generator.uniform(2, 5)
            centre[0] += 14 * (structure - 1)
            classes[np.linalg.norm(points - centre[:, None, None, None], axis=0) < radius] = structure
        maps.append(classes)
    found = hd95_per_structure(tensor(maps[0]), tensor(maps[1]), 3, SPACING)
    assert found == pytest.approx([reference(maps[0] == value, maps[1] == value) for value in (1, 2)], rel=1e-5)


def test_what_is_absent_counts_nothing_or_the_diagonal() -> None:
    empty, full = np.zeros((6, 4, 8), np.int64), np.zeros((6, 4, 8), np.int64)
    full[2:4, 1:3, 2:5] = 1
    diagonal = np.sqrt(6**2 + 8**2 + 4**2)
    assert hd95_per_structure(tensor(empty), tensor(empty), 2, SPACING) == [0.0]
    assert hd95_per_structure(tensor(full), tensor(empty), 2, SPACING) == pytest.approx([diagonal])
    assert hd95_per_structure(tensor(empty), tensor(full), 2, SPACING) == pytest.approx([diagonal])
    assert hd95_per_structure(tensor(full), tensor(full), 2, SPACING) == [0.0]


def test_both_are_background_where_the_truth_is_ignored() -> None:
    truth, prediction = np.zeros((2, 20, 9, 9), np.int64)
    truth[2:6, 2:6, 2:6] = 1
    prediction[2:14, 2:6, 2:6] = 1
    far = hd95_per_structure(tensor(prediction), tensor(truth), 2, SPACING)
    assert far[0] == pytest.approx(reference(prediction == 1, truth == 1), abs=1e-3)
    truth[7:] = -1
    prediction[15] = -1
    near = hd95_per_structure(tensor(prediction), tensor(truth), 2, SPACING)
    prediction[7:] = 0
    assert near[0] == pytest.approx(reference(prediction == 1, truth == 1), abs=1e-3)
    assert near[0] < far[0]
