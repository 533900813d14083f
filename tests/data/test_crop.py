import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gvsl.data import centre_crop, fit_crop
from gvsl.data.crop import Box, Shape, aligned_centres

SIDES = st.tuples(*[st.integers(1, 20)] * 3)


def crop_of(volume: NDArray[np.int64], crop: Shape) -> NDArray[np.int64]:
    return centre_crop(lambda box: volume[box], (volume.shape[0], volume.shape[1], volume.shape[2]), crop)


def along(count: int) -> NDArray[np.int64]:
    """A line of voxels 1, 2, 3 ... along the first axis."""
    return np.arange(1, count + 1).reshape(count, 1, 1)


@pytest.mark.parametrize(
    ("shapes", "most", "expected"),
    [
        ([(35, 51, 35)], 128**3, (32, 48, 32)),
        ([(20, 90, 45), (44, 100, 44), (200, 110, 43)], 128**3, (48, 96, 48)),  # the median of 20, 44, 200 is 44
        ([(5, 5, 5)], 128**3, (16, 16, 16)),
        ([(300, 200, 100)], 128**3, (144, 144, 96)),
        ([(300, 200, 100)], 1, (16, 16, 16)),
    ],
)
def test_the_crop_fits_the_median_volume(shapes: list[Shape], most: int, expected: Shape) -> None:
    assert fit_crop(shapes, most) == expected


@settings(max_examples=30, deadline=None)
@given(shapes=st.lists(st.tuples(*[st.integers(1, 600)] * 3), min_size=1, max_size=5), most=st.integers(16**3, 200**3))
def test_the_crop_is_of_whole_multiples_within_its_voxels(shapes: list[Shape], most: int) -> None:
    crop = fit_crop(shapes, most)
    assert all(side >= 16 and side % 16 == 0 for side in crop)
    assert np.prod(crop) <= most
    for axis, side in enumerate(crop):
        assert side <= max(16, np.median([shape[axis] for shape in shapes]) + 8)


@pytest.mark.parametrize(
    ("side", "crop", "expected"),
    [
        (6, 6, [1, 2, 3, 4, 5, 6]),
        (6, 2, [3, 4]),
        (7, 4, [2, 3, 4, 5]),
        (2, 6, [0, 0, 1, 2, 0, 0]),
        (3, 6, [0, 1, 2, 3, 0, 0]),
        (1, 2, [1, 0]),
    ],
)
def test_it_is_about_the_centre_and_padded_with_air(side: int, crop: int, expected: list[int]) -> None:
    assert crop_of(along(side), (crop, 1, 1))[:, 0, 0].tolist() == expected


@settings(max_examples=40, deadline=None)
@given(shape=SIDES, crop=SIDES)
def test_each_axis_is_cropped_by_itself(shape: Shape, crop: Shape) -> None:
    volume = np.arange(1, 1 + np.prod(shape)).reshape(shape)
    found = crop_of(volume, crop)
    assert found.shape == crop
    assert found.dtype == volume.dtype
    lines = [crop_of(along(side), (wanted, 1, 1))[:, 0, 0] for side, wanted in zip(shape, crop, strict=True)]
    for voxel in np.ndindex(crop):
        places = [line[at] - 1 for line, at in zip(lines, voxel, strict=True)]
        assert found[voxel] == (volume[tuple(places)] if min(places) >= 0 else 0)


def test_nothing_outside_of_the_crop_is_read() -> None:
    read: list[Box] = []

    def reader(box: Box) -> NDArray[np.float32]:
        read.append(box)
        return np.ones([part.stop - part.start for part in box], dtype=np.float32)

    assert centre_crop(reader, (100, 8, 30), (16, 16, 16)).sum() == 16 * 8 * 16
    assert read == [(slice(42, 58), slice(0, 8), slice(7, 23))]


@pytest.mark.parametrize(
    ("place", "first"), [(0.0, 0), (0.1, 0), (0.2, 0), (0.3, 2), (0.5, 6), (0.7, 10), (0.8, 12), (1.0, 12)]
)
def test_a_crop_about_another_place_stays_within_the_volume(place: float, first: int) -> None:
    volume = along(20)
    found = centre_crop(lambda box: volume[box], (20, 1, 1), (8, 1, 1), (place, 0.5, 0.5))
    assert found[:, 0, 0].tolist() == list(range(first + 1, first + 9))


@settings(max_examples=60, deadline=None)
@given(shapes=st.tuples(SIDES, SIDES), crop=SIDES, seed=st.integers(0, 100))
def test_aligned_centres_are_one_and_both_crops_fit(shapes: tuple[Shape, Shape], crop: Shape, seed: int) -> None:
    first, second = aligned_centres(shapes, crop, 0.0, np.random.default_rng(seed))
    assert first == second
    for one, other, wanted, place in zip(*shapes, crop, first, strict=True):
        if wanted >= min(one, other):
            assert place == 0.5
        else:
            for side in (one, other):
                assert wanted / 2 - 1e-6 <= place * side <= side - wanted / 2 + 1e-6
    shifted, _ = aligned_centres(shapes, crop, 0.25, np.random.default_rng(seed))
    for one, wanted, place, moved in zip(shapes[0], crop, first, shifted, strict=True):
        assert abs(moved - place) <= 0.25 * wanted / one
