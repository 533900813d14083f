import numpy as np
import pytest
from numpy.typing import NDArray

from gvsl.datasets.candi import MIDDLE, SIDES, STRUCTURES
from gvsl.phantom.cohort import subject

Pair = tuple[NDArray[np.float32], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def heads() -> list[Pair]:
    return [subject(3, index, task="sbm") for index in range(4)]


def test_every_head_has_all_28_structures_whole_in_view(heads: list[Pair]) -> None:
    assert len(STRUCTURES) == 28
    for _, label in heads:
        counts = np.bincount(label.ravel(), minlength=max(STRUCTURES) + 1)
        assert {int(value) for value in np.flatnonzero(counts)} == {0, *STRUCTURES}
        assert min(counts[value] for value in STRUCTURES) >= 8
        cerebrum = np.isin(label, [value for name in SIDES if "cerebral" in name for value in SIDES[name]])
        cerebrum[1:-1, 1:-1, 1:-1] = False
        assert not cerebrum.any()


def test_left_is_left(heads: list[Pair]) -> None:
    for _, label in heads:
        for left, right in SIDES.values():  # the first axis runs to the patient's right
            assert np.argwhere(label == left)[:, 0].mean() < np.argwhere(label == right)[:, 0].mean() - 3


def test_structures_lie_where_they_should(heads: list[Pair]) -> None:
    for _, label in heads:
        middle = {value: np.argwhere(label == value).mean(axis=0) for value in STRUCTURES}
        names = {name: middle[left] for name, (left, _) in SIDES.items()}
        names |= {name: middle[value] for value, name in MIDDLE.items()}
        assert names["cerebellar cortex"][2] < names["cerebral cortex"][2]
        assert names["cerebellar cortex"][1] < names["brain stem"][1] < names["amygdala"][1]
        assert names["hippocampus"][1] < names["amygdala"][1]
        assert names["caudate"][1] > names["thalamus"][1]
        assert names["putamen"][0] < names["pallidum"][0] < names["third ventricle"][0]  # from lateral to medial


def test_the_contrast_is_t1_weighted(heads: list[Pair]) -> None:
    def mean(pair: Pair, *values: int) -> float:
        image, label = pair
        return float(np.median(image[np.isin(label, values)]))

    for pair in heads:
        white = mean(pair, *SIDES["cerebral white matter"])
        grey = mean(pair, *SIDES["cerebral cortex"])
        fluid = mean(pair, *SIDES["lateral ventricle"])
        assert white > 1.15 * grey > 1.5 * fluid > 0
        assert pair[0].min() >= 0


def test_intensities_are_in_arbitrary_units(heads: list[Pair]) -> None:
    brightest = [np.percentile(image, 99) for image, _ in heads]
    assert max(brightest) > 1.3 * min(brightest)
