from dataclasses import replace
from itertools import permutations, product

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from gvsl.io import UnusableFile, Volume
from gvsl.preprocessing import PRESETS, Preprocessing, preprocess
from gvsl.preprocessing.apply import scale

MR, CT = PRESETS["mr"], PRESETS["ct"]
WHOLE = replace(MR, crop="none")
ORIENTATIONS = [
    np.array(list(zip(order, flips, strict=True)))
    for order in permutations(range(3))
    for flips in product((1, -1), repeat=3)
]


def head(shape: tuple[int, int, int] = (40, 44, 36), seed: int = 0) -> NDArray[np.float32]:
    """Return a bright, textured ellipsoid in dark, noisy air."""
    draw = np.random.default_rng(seed)
    index = [np.linspace(-1, 1, size) for size in shape]
    radius = np.sqrt(sum(axis**2 for axis in np.meshgrid(*index, indexing="ij")))
    tissue = 600 + 300 * np.cos(6 * radius) + draw.normal(0, 20, shape)
    return np.where(radius < 0.6, tissue, np.abs(draw.normal(0, 10, shape))).astype(np.float32)


def labels_of(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.digitize(image, [300, 700]).astype(np.uint8)


def turned(volume: Volume, turns: NDArray[np.int64]) -> Volume:
    affine = volume.affine @ nibabel.orientations.inv_ornt_aff(turns, volume.array.shape)
    return Volume(nibabel.apply_orientation(volume.array, turns), affine)


@pytest.mark.parametrize("spec", [MR, WHOLE, CT, replace(MR, spacing=2.0), replace(WHOLE, spacing=0.8)])
@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.9, 1.2, 3)])
@pytest.mark.parametrize("turns", ORIENTATIONS[::5])
def test_axis_order_of_the_file_makes_no_difference(
    turns: NDArray[np.int64], spacing: tuple[float, float, float], spec: Preprocessing
) -> None:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-30, 10, 5)
    image = Volume(head(), affine)
    label = Volume(labels_of(head()), affine)
    expected, expected_label, _ = preprocess(image, label, spec)
    found, found_label, _ = preprocess(turned(image, turns), turned(label, turns), spec)
    np.testing.assert_array_equal(found.array, expected.array)
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-9)
    assert found_label is not None
    assert expected_label is not None
    np.testing.assert_array_equal(found_label.array, expected_label.array)
    np.testing.assert_allclose(found_label.affine, expected.affine, atol=1e-9)
    assert found_label.array.shape == found.array.shape
    np.testing.assert_allclose(found.spacing, spec.spacing)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_labels_on_the_right_grid_are_never_changed(dtype: type) -> None:
    label: NDArray[np.uint8 | np.int16] = np.random.default_rng(0).integers(0, 5, (20, 21, 22)).astype(dtype)
    image = Volume(head((20, 21, 22)), np.eye(4))
    ready, ready_label, lost = preprocess(image, Volume(label, np.eye(4)), WHOLE)
    assert ready_label is not None
    assert ready_label.array.dtype == dtype
    np.testing.assert_array_equal(ready_label.array, label)
    np.testing.assert_array_equal(ready_label.affine, np.eye(4))
    assert ready.array.shape == label.shape
    assert lost == 0


def test_the_crop_keeps_the_foreground_and_its_margin() -> None:
    image = head()
    image[2, 2, 2] = 3000  # a single bright voxel in air is not foreground
    bright = np.argwhere(labels_of(head()) > 0)
    low, high = bright.min(0) - MR.margin - 1, bright.max(0) + MR.margin + 2
    ready, label, lost = preprocess(Volume(image, np.eye(4)), Volume(labels_of(head()), np.eye(4)), MR)
    np.testing.assert_array_equal(ready.affine[:3, 3], low)
    assert ready.array.shape == tuple(high - low)
    assert label is not None
    np.testing.assert_array_equal(label.array, labels_of(head())[tuple(map(slice, low, high))])
    assert lost == 0


def test_the_margin_is_in_voxels_of_the_prepared_grid() -> None:
    small = preprocess(Volume(head(), np.eye(4)), None, replace(MR, margin=0, spacing=2.0))[0]
    large = preprocess(Volume(head(), np.eye(4)), None, replace(MR, margin=2, spacing=2.0))[0]
    np.testing.assert_array_equal(np.subtract(large.array.shape, small.array.shape), 4)


def test_cropped_labels_are_counted() -> None:
    label = labels_of(head())
    label[0, 0, :3] = 1
    assert preprocess(Volume(head(), np.eye(4)), Volume(label, np.eye(4)), MR)[2] == 3


@pytest.mark.parametrize("size", [3000.0, 3e6])
def test_a_few_bright_voxels_do_not_change_the_range(size: float) -> None:
    image = head((30, 30, 30))
    spoilt = image.copy()
    spoilt[15, 15, 13:16] = size
    near = np.ones_like(image, bool)
    near[15, 15, 13:16] = False
    np.testing.assert_allclose(scale(spoilt, MR)[near], scale(image, MR)[near], atol=0.02)


@pytest.mark.parametrize(("gain", "offset"), [(0.01, 0), (5000, 0), (3, -800)])
def test_the_scanner_s_unit_makes_no_difference(gain: float, offset: float) -> None:
    np.testing.assert_allclose(scale((gain * head() + offset).astype(np.float32), MR), scale(head(), MR), atol=1e-3)


def test_padding_does_not_change_the_range() -> None:
    image = head((20, 20, 20)) + 50
    padded = np.zeros((60, 60, 60), np.float32)
    padded[20:40, 20:40, 20:40] = image
    np.testing.assert_allclose(scale(padded, MR)[20:40, 20:40, 20:40], scale(image, MR), atol=1e-6)


def test_scaled_values_fill_the_range() -> None:
    for spec in (MR, replace(CT, lower=0.0, upper=500.0)):
        scaled = scale(head(), spec)
        assert scaled.dtype == np.float32
        assert 0 <= scaled.min() < 1e-3
        assert scaled.max() == 1


def test_the_window_of_ct_is_the_paper_s() -> None:
    values = np.array([-3000, -1024, 0, 512, 1024, 3000], np.float32).reshape(6, 1, 1)
    np.testing.assert_allclose(scale(values, CT).ravel(), [0, 0, 0.5, 0.75, 1, 1])


def test_an_image_outside_the_window_is_refused() -> None:
    with pytest.raises(UnusableFile, match="all of it lies outside -1024 to 1024"):
        scale(head() + 5000, CT)


def test_an_image_without_contrast_is_refused() -> None:
    image = np.full((20, 20, 20), 7, np.float32)
    image[0, 0, 0] = 8
    with pytest.raises(UnusableFile, match="hardly any contrast"):
        scale(image, MR)


@pytest.mark.parametrize("value", [3e38, -3e38])
def test_values_at_the_end_of_float32_do_not_overflow(value: float) -> None:
    image = head()
    image[1, 1, 1] = value
    assert np.isfinite(scale(image, MR)).all()


def test_the_largest_step_of_a_coarse_search_loses_nothing() -> None:
    """A volume searched on a coarse grid keeps a label at the edge of its foreground."""
    image = np.zeros((300, 8, 8), np.float32)
    image[101:202] = np.random.default_rng(0).uniform(50, 100, (101, 8, 8))
    label = (image > 0).astype(np.uint8)
    _, kept, lost = preprocess(Volume(image, np.eye(4)), Volume(label, np.eye(4)), replace(MR, margin=0))
    assert lost == 0
    assert kept is not None
    assert kept.array.shape[0] < 110
