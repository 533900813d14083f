import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gvsl.cases import IGNORED
from gvsl.errors import UserError
from gvsl.store import class_indices

VALUES = st.lists(st.integers(-300, 300).filter(bool), min_size=2, max_size=8, unique=True)


@given(values=VALUES, ignored=st.integers(0, 2), seed=st.integers(0, 99))
def test_each_voxel_has_the_class_of_its_own_value(values: list[int], ignored: int, seed: int) -> None:
    structures, left_out = values[ignored:], values[:ignored]
    label = np.random.default_rng(seed).choice([0, *values], (3, 4, 5)).astype(np.int16)
    expected = np.zeros(label.shape)
    for number, value in enumerate(structures, 1):
        expected[label == value] = number
    for value in left_out:
        expected[label == value] = IGNORED
    np.testing.assert_array_equal(class_indices(label, structures, left_out), expected)


@pytest.mark.parametrize("odd", [-2, 2, 300])
def test_a_value_of_no_class_is_refused(odd: int) -> None:
    with pytest.raises(UserError, match=f"no structure: {odd};"):
        class_indices(np.array([0, -1, 5, odd], np.int16), [-1, 5])
