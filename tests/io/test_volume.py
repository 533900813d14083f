import numpy as np
import pytest

from gvsl.io import UnusableFile, Volume, same_grid

ONE = Volume(np.zeros((40, 50, 60)), np.diag([1.0, 1, 2, 1]))


def moved(by: float) -> Volume:
    affine = ONE.affine.copy()
    affine[0, 3] += by
    return Volume(ONE.array, affine)


def test_spacing_is_the_length_of_a_step_along_each_axis() -> None:
    turned = np.array([[0, -2.0, 0, 0], [3.0, 0, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 1]])
    assert Volume(ONE.array, turned).spacing == (3, 2, 1)


@pytest.mark.parametrize(("by", "same"), [(0, True), (0.05, True), (0.2, False), (float("nan"), False)])
def test_a_grid_is_the_same_up_to_rounding(by: float, same: bool) -> None:
    assert same_grid(ONE, moved(by)) is same


def test_a_small_turn_shows_at_the_corners() -> None:
    affine = ONE.affine.copy()
    affine[0, 1] = 0.01  # half a voxel at the far end of 50
    assert not same_grid(ONE, Volume(ONE.array, affine))


def test_another_shape_is_another_grid() -> None:
    assert not same_grid(ONE, Volume(np.zeros((40, 50, 61)), ONE.affine))


def test_a_reason_is_one_printable_line_that_ends() -> None:
    assert str(UnusableFile("it is called 'a\n\x1b[31m b'")) == "it is called 'a ?[31m b'"
    assert str(UnusableFile("9" * 5000)) == "9" * 297 + "..."
