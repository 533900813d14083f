import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from gvsl.augment import SpatialSettings, draw_spatial
from gvsl.geometry import nonpositive_jacobian_fraction

SHAPE = (24, 32, 40)
NONE = SpatialSettings(rotation=0, scale=0, translation=0, shear=0, elastic=0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def maps(settings: SpatialSettings, batch: int = 60) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The matrix (B, 3, 3) about the centre and the translation (B, 3) of fields that are affine."""
    dvf = draw_spatial(batch, SHAPE, settings, generator()).double().numpy()
    places = np.indices(SHAPE).reshape(3, -1) - (np.array(SHAPE)[:, None] - 1) / 2
    matrices, translations = [], []
    for field in dvf.reshape(batch, 3, -1):
        known = np.concatenate([places, np.ones((1, places.shape[1]))]).T
        solution, residual, _, _ = np.linalg.lstsq(known, (field + places).T, rcond=None)
        assert residual.max() < 1e-3
        matrices.append(solution[:3].T)
        translations.append(solution[3])
    return np.stack(matrices), np.stack(translations)


def test_the_defaults_are_documented() -> None:
    settings = SpatialSettings()
    assert (settings.rotation, settings.scale, settings.translation, settings.shear) == (20, 0.25, 0.1, 10)


def test_with_nothing_to_do_the_field_is_zero() -> None:
    assert draw_spatial(2, SHAPE, NONE, generator()).abs().max() < 1e-5
    assert not draw_spatial(3, SHAPE, replace(SpatialSettings(), rate=0), generator()).any()


def test_the_rate_is_kept_by_pair() -> None:
    fields = draw_spatial(400, (4, 4, 4), replace(SpatialSettings(), rate=0.5), generator())
    assert fields.flatten(1).any(dim=1).float().mean().item() == pytest.approx(0.5, abs=0.08)


def test_rotations_turn_without_shearing_on_a_volume_that_is_no_cube() -> None:
    matrices, _ = maps(replace(NONE, rotation=20))
    for matrix in matrices:
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-5)
    angles = np.abs(Rotation.from_matrix(matrices).as_euler("xyz", degrees=True))
    assert angles.max() < 20.001
    assert (angles.max(axis=0) > 17).all()


def test_scales_are_along_the_axes_and_in_their_range() -> None:
    matrices, _ = maps(replace(NONE, scale=0.25))
    factors = np.diagonal(matrices, axis1=1, axis2=2)
    np.testing.assert_allclose(matrices - factors[:, :, None] * np.eye(3), 0, atol=1e-5)
    assert factors.min() > 0.7499
    assert factors.max() < 1.2501
    assert (np.ptp(factors, axis=0) > 0.4).all()


def test_translations_are_shares_of_their_own_side() -> None:
    matrices, translations = maps(replace(NONE, translation=0.1))
    np.testing.assert_allclose(matrices, np.broadcast_to(np.eye(3), matrices.shape), atol=1e-5)
    shares = np.abs(translations) / SHAPE
    assert shares.max() < 0.10001
    assert (shares.max(axis=0) > 0.085).all()


def test_shears_are_in_their_range() -> None:
    matrices, _ = maps(replace(NONE, shear=10))
    np.testing.assert_allclose(np.diagonal(matrices, axis1=1, axis2=2), 1, atol=1e-5)
    off = np.abs(matrices[:, ~np.eye(3, dtype=bool)])
    assert off.max() < math.tan(math.radians(10)) + 1e-5
    assert (off.max(axis=0) > 0.13).all()


def test_the_elastic_field_has_its_strength_at_its_knots() -> None:
    settings = replace(NONE, elastic=0.02, knots=4)
    shape = (10, 13, 16)  # sides of which every third, fourth and fifth voxel is a knot
    fields = draw_spatial(200, shape, settings, generator())
    knots = fields[:, :, ::3, ::4, ::5]
    for axis, side in enumerate(shape):
        assert knots[:, axis].std().item() == pytest.approx(0.02 * side, rel=0.05)
        assert abs(knots[:, axis].mean().item()) < 0.002 * side


def test_the_defaults_hardly_fold() -> None:
    assert nonpositive_jacobian_fraction(draw_spatial(20, SHAPE, SpatialSettings(), generator())) < 1e-3


def test_each_pair_has_its_own_field_on_the_volumes_grid() -> None:
    fields = draw_spatial(2, SHAPE, SpatialSettings(), generator())
    assert fields.shape == (2, 3, *SHAPE)
    assert (fields[0] - fields[1]).abs().max() > 1
