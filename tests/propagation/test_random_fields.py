import pytest
import torch
from torch import Tensor

from gvsl.geometry import affine_dvf, gaussian_smooth, nonpositive_jacobian_fraction
from gvsl.propagation.random_fields import random_like


@pytest.fixture(scope="module")
def dvf() -> Tensor:
    """A smooth field without folds, of another strength along each axis, with a turn as a match has."""
    noise = gaussian_smooth(torch.randn(1, 3, 40, 36, 44, generator=torch.Generator().manual_seed(0)), 3.0)
    noise = noise[..., 8:-8, 8:-8, 8:-8]
    turn = torch.eye(4)[None]
    turn[0, 0, 1], turn[0, 1, 0] = 0.2, -0.2
    return affine_dvf(turn, (24, 20, 28)) + noise / noise.std() * torch.tensor([0.4, 0.8, 0.6]).view(1, 3, 1, 1, 1)


def test_a_random_field_is_as_strong_and_smooth_and_does_not_fold(dvf: Tensor) -> None:
    assert nonpositive_jacobian_fraction(dvf) == 0
    found = random_like(dvf, 0, "atlas", "volume")
    strength, wanted = (each.square().mean(dim=(0, 2, 3, 4)).sqrt() for each in (found, dvf))
    assert torch.allclose(strength, wanted, rtol=0.01)
    assert nonpositive_jacobian_fraction(found) == 0
    for axis in (2, 3, 4):
        steepness, usual = (float(each.diff(dim=axis).square().mean().sqrt()) for each in (found, dvf))
        assert steepness == pytest.approx(usual, rel=0.2)
    assert float((found - dvf).square().mean().sqrt()) > float(dvf.square().mean().sqrt())


def test_it_depends_on_its_seeds_alone(dvf: Tensor) -> None:
    first = random_like(dvf, 0, "atlas", "volume")
    torch.rand(1)
    assert torch.equal(first, random_like(dvf, 0, "atlas", "volume"))
    others = [random_like(dvf, *seeds) for seeds in ((1, "atlas", "volume"), (0, "b", "volume"), (0, "atlas", "b"))]
    for other in others:
        assert float((first - other).square().mean()) > 0.2 * float(first.square().mean())
    assert not random_like(torch.zeros_like(dvf), 0).any()


def test_a_field_that_folds_becomes_one_that_does_not(dvf: Tensor) -> None:
    noise = torch.randn(dvf.shape, generator=torch.Generator().manual_seed(1))
    rough = gaussian_smooth(noise, 0.5) * 8
    assert nonpositive_jacobian_fraction(rough) > 0.1
    found = random_like(rough, 0)
    assert nonpositive_jacobian_fraction(found) == 0
    assert float(found.square().mean().sqrt()) == pytest.approx(float(rough.square().mean().sqrt()), rel=0.02)


def test_a_turn_by_which_every_random_field_folds_is_weakened() -> None:
    half_turn = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))[None]
    turn = affine_dvf(half_turn, (16, 16, 16))
    found = random_like(turn, 0)
    assert nonpositive_jacobian_fraction(found) == 0
    assert 0 < float(found.square().mean()) < float(turn.square().mean())
