from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gvsl.io import UnusableFile, Volume, resample


def places(volume: Volume) -> NDArray[np.float64]:
    """Return the position of each voxel in millimetres, (3, D, H, W)."""
    index = np.indices(volume.array.shape).reshape(3, -1)
    points = volume.affine[:3, :3] @ index + volume.affine[:3, 3:]
    return points.reshape(3, *volume.array.shape)


def grid(shape: tuple[int, int, int], spacing: tuple[float, float, float], oblique: bool = False) -> Volume:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-7, 5, 11)
    if oblique:
        angle = np.deg2rad(15)
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        affine[:3, :3] = turn @ affine[:3, :3]
    return Volume(np.zeros(shape, np.float32), affine)


def filled(empty: Volume, values: NDArray[Any]) -> Volume:
    return Volume(values, empty.affine)


def test_the_right_spacing_changes_nothing() -> None:
    volume = grid((6, 7, 8), (1, 1.0005, 0.9995))
    assert resample(volume, 1.0) is volume
    assert resample(volume, 1.0, label=True) is volume


@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("spacing", [(1, 1, 3), (0.7, 0.8, 2), (2.5, 1.25, 0.4), (1, 2, 1)])
@pytest.mark.parametrize("target", [1.0, 2.0])
def test_values_keep_their_position_in_the_patient(
    spacing: tuple[float, float, float], target: float, oblique: bool
) -> None:
    empty = grid((24, 30, 40), spacing, oblique)
    ramp = np.tensordot([1.0, -2.0, 0.5], places(empty), 1).astype(np.float32)
    small = resample(filled(empty, ramp), target)
    np.testing.assert_allclose(small.spacing, target)
    np.testing.assert_allclose(
        np.array(small.array.shape) * target, np.multiply((24, 30, 40), spacing), atol=target / 2
    )
    expected = np.tensordot([1.0, -2.0, 0.5], places(small), 1)
    # Near the border the weights are truncated: 4 sigmas (1.7 new voxels) in shrinking, half an old voxel in growing.
    edge = [3 if target > step else int(np.ceil(0.5 * step / target)) for step in spacing]
    inner = tuple(slice(cut, -cut) for cut in edge)
    assert small.array[inner].size
    np.testing.assert_allclose(small.array[inner], expected[inner], atol=1e-3)


def test_the_field_of_view_keeps_its_centre() -> None:
    volume = grid((25, 31, 40), (0.8, 1.3, 3))
    small = resample(volume, 1.1)
    centres = [item.affine @ [*(np.array(item.array.shape) - 1) / 2, 1] for item in (volume, small)]
    np.testing.assert_allclose(*centres)


def test_a_constant_stays_constant_to_the_border() -> None:
    volume = filled(grid((9, 10, 11), (0.3, 1, 2.2)), np.full((9, 10, 11), 0.7, np.float32))
    np.testing.assert_allclose(resample(volume, 1.0).array, 0.7, rtol=1e-6)


def test_shrinking_does_not_alias() -> None:
    """A grating above the new grid's limit must fade; subsampling would alias it at full strength."""
    wave = 0.5 + 0.5 * np.cos(2 * np.pi * 0.45 * np.arange(120))
    volume = filled(grid((120, 8, 8), (1, 1, 1)), np.broadcast_to(wave[:, None, None], (120, 8, 8)).astype(np.float32))
    assert volume.array[::3].std() > 0.3
    assert resample(volume, 3.0).array[4:-4].std() < 0.02


def test_shrinking_keeps_low_frequencies() -> None:
    wave = 0.5 + 0.5 * np.cos(2 * np.pi * 0.02 * np.arange(200))
    volume = filled(grid((200, 8, 8), (1, 1, 1)), np.broadcast_to(wave[:, None, None], (200, 8, 8)).astype(np.float32))
    assert resample(volume, 3.0).array.std() > 0.95 * wave.std()


def test_values_stay_within_the_range() -> None:
    values = np.random.default_rng(0).random((20, 21, 22)).astype(np.float32)
    for spacing in ((0.4, 1, 3), (2, 2, 2), (0.6, 0.6, 0.6)):
        out = resample(filled(grid((20, 21, 22), spacing), values), 1.0).array
        assert out.min() >= values.min() - 1e-6
        assert out.max() <= values.max() + 1e-6


@pytest.mark.parametrize("spacing", [(1, 1, 3), (0.5, 0.7, 2), (2.5, 1.25, 0.4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_labels_go_to_the_largest_weight(spacing: tuple[float, float, float], dtype: type) -> None:
    values: NDArray[np.uint8 | np.int16] = np.array([0, 3, 200, 7], dtype)
    coarse = np.random.default_rng(0).choice(values, (5, 5, 5))
    array = coarse.repeat(4, 0).repeat(4, 1).repeat(4, 2)
    volume = filled(grid((20, 20, 20), spacing), array)
    out = resample(volume, 1.0, label=True)
    assert out.array.dtype == dtype
    assert set(np.unique(out.array)) <= set(values.tolist())
    shares = np.stack(
        [resample(filled(volume, (array == value).astype(np.float32)), 1.0).array for value in np.unique(values)]
    )
    np.testing.assert_allclose(shares.sum(0), 1, atol=1e-5)
    clear = np.sort(shares, 0)[-1] - np.sort(shares, 0)[-2] > 1e-4
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(out.array[clear], np.unique(values)[shares.argmax(0)][clear])


def test_labels_and_image_stay_together_and_keep_their_volume() -> None:
    empty = grid((60, 50, 20), (0.7, 0.9, 2.5))
    centre = places(empty).reshape(3, -1).mean(1)
    ball = (np.linalg.norm(places(empty) - centre[:, None, None, None], axis=0) < 14).astype(np.uint8)
    out = resample(filled(empty, ball), 1.0, label=True)
    found = np.linalg.norm(places(out) - centre[:, None, None, None], axis=0) < 14
    dice = 2 * (found & (out.array > 0)).sum() / (found.sum() + (out.array > 0).sum())
    assert dice > 0.96
    assert abs(out.array.sum() / (ball.sum() * 0.7 * 0.9 * 2.5) - 1) < 0.03


def test_background_wins_ties() -> None:
    array = np.zeros((40, 4, 4), np.uint8)
    array[1::2] = 5
    out = resample(filled(grid((40, 4, 4), (1, 2, 2)), array), 2.0, label=True).array
    assert not out[3:-3].any()


def test_a_label_map_without_background_gets_none() -> None:
    array = np.random.default_rng(0).choice(np.array([1, 2, 3], np.uint8), (12, 12, 12))
    assert resample(filled(grid((12, 12, 12), (0.7, 1, 1.6)), array), 1.0, label=True).array.min() >= 1


def test_an_implausible_spacing_is_refused_before_allocation() -> None:
    with pytest.raises(UnusableFile, match="5000000 x 5000000 x 5000000 voxels at 1 mm"):
        resample(grid((5, 5, 5), (1e6, 1e6, 1e6)), 1.0)


@pytest.mark.parametrize(
    ("spacing", "limit"), [((0.7, 0.8, 2.5), 0.015), ((1.3, 1.0, 0.6), 0.006), ((2.0, 2.0, 2.0), 0.024)]
)
def test_a_smooth_function_is_resampled_within_the_documented_error(
    spacing: tuple[float, float, float], limit: float
) -> None:
    """Compare a resampled Gaussian of 8 mm with its exact values on the new grid of 1 mm.

    Linear interpolation is off by at most h^2 / 8 times the second derivative along each axis, 1/64 of the height per
    mm^2 here; smoothing to a width of 1 mm adds (1 - h^2) / (2 * 2.355^2) times the same along each axis that shrinks.
    """
    empty = grid((int(64 / spacing[0]), int(64 / spacing[1]), int(64 / spacing[2])), spacing)

    def height(volume: Volume) -> NDArray[np.float64]:
        away = places(volume) - places(empty).reshape(3, -1).mean(1)[:, None, None, None]
        return np.asarray(np.exp(-0.5 * (away**2).sum(0) / 8**2))

    derived = sum((h**2 / 8 + max(1 - h**2, 0) / (2 * 2.355**2)) / 8**2 for h in spacing)
    done = resample(filled(empty, height(empty).astype(np.float32)), 1.0)
    assert np.abs(done.array - height(done)).max() < min(limit, derived)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("frequency", [0.13, 0.2, 0.31, 0.5])
def test_shrinking_fivefold_does_not_alias(axis: int, frequency: float) -> None:
    """Gratings above the Nyquist frequency of a grid five times coarser, 0.1 per voxel, fade and don't alias.

    Just above the limit some remains, as with any Gaussian; subsampling keeps all, at another frequency.
    """
    shape = [8, 8, 8]
    shape[axis] = 200
    wave = 0.5 + 0.5 * np.cos(2 * np.pi * frequency * np.arange(200) + 0.3)
    turned = np.moveaxis(np.broadcast_to(wave[:, None, None], (200, 8, 8)), 0, axis)
    spacing = [5.0, 5.0, 5.0]
    spacing[axis] = 1.0
    done = resample(
        filled(grid((shape[0], shape[1], shape[2]), (spacing[0], spacing[1], spacing[2])), turned.astype(np.float32)),
        5.0,
    )
    assert done.array.shape[axis] == 40
    inner = np.moveaxis(done.array, axis, 0)[3:-3]
    sigma = np.sqrt(5**2 - 1) / 2.3548
    left = 0.5 * np.exp(-0.5 * (2 * np.pi * frequency * sigma) ** 2)
    assert np.abs(inner - 0.5).max() < left + 0.002
    assert frequency < 0.2 or np.abs(inner - 0.5).max() < 0.035 * 0.5 + 0.002  # amplitude 0.5
