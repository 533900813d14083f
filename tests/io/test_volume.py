from itertools import permutations, product

import numpy as np
import pytest

from gvsl.io import UnusableFile, Volume, same_grid, to_canonical

ARRAY = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
AFFINE = np.array([[1.0, 0, 0, -20], [0, 1.5, 0, 10], [0, 0, 2, 30], [0, 0, 0, 1]])
ORIENTATIONS = [(order, flips) for order in permutations(range(3)) for flips in product((False, True), repeat=3)]
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


def test_a_small_rotation_is_detected_at_the_corners() -> None:
    affine = ONE.affine.copy()
    affine[0, 1] = 0.01  # half a voxel at the far end of 50
    assert not same_grid(ONE, Volume(ONE.array, affine))


def test_different_shapes_are_different_grids() -> None:
    assert not same_grid(ONE, Volume(np.zeros((40, 50, 61)), ONE.affine))


def test_a_reason_is_one_short_printable_line() -> None:
    assert str(UnusableFile("it is called 'a\n\x1b[31m b'")) == "it is called 'a ?[31m b'"
    assert str(UnusableFile("9" * 5000)) == "9" * 297 + "..."


def turned(order: tuple[int, ...], flips: tuple[bool, ...]) -> Volume:
    """Return the volume stored with its axes in another order and direction, by explicit loops."""
    shape = [ARRAY.shape[axis] for axis in order]
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    origin = np.zeros(3)
    for new, old in enumerate(order):
        affine[:3, new] = AFFINE[:3, old] * (-1 if flips[new] else 1)
        if flips[new]:
            origin[old] = ARRAY.shape[old] - 1
    affine[:3, 3] = (AFFINE @ [*origin, 1])[:3]
    array = np.empty(shape, np.float32)
    for index in np.ndindex(*shape):
        place = np.linalg.inv(AFFINE) @ affine @ [*index, 1]
        array[index] = ARRAY[tuple(np.rint(place[:3]).astype(int))]
    return Volume(array, affine)


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS)
def test_every_orientation_becomes_ras_exactly(order: tuple[int, ...], flips: tuple[bool, ...]) -> None:
    volume = to_canonical(turned(order, flips))
    np.testing.assert_array_equal(volume.array, ARRAY)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-12)


def test_an_oblique_volume_stays_oblique() -> None:
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    volume = to_canonical(Volume(ARRAY, turn))
    np.testing.assert_array_equal(volume.array, ARRAY)
    np.testing.assert_allclose(volume.affine, turn)
