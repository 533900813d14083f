import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gvsl.augment import change_intensity, draw_intensity
from gvsl.augment.intensity import IntensityDraw


def draw(batch: int, seed: int = 0, rate: float = 1.0, falling: float = 0.0) -> IntensityDraw:
    return draw_intensity(batch, rate, torch.Generator().manual_seed(seed), falling)


def image(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_curve_rises_from_0_to_1(seed: int) -> None:
    table = draw(8, seed).table
    assert table[:, 0].tolist() == [0] * 8
    assert table[:, -1].tolist() == pytest.approx([1] * 8, abs=1e-6)
    assert table.diff(dim=1).min() >= -1e-6


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_falling_curve_falls_from_1_to_0(seed: int) -> None:
    table = draw(8, seed, falling=1.0).table
    assert table[:, 0].tolist() == [1] * 8
    assert table[:, -1].tolist() == pytest.approx([0] * 8, abs=1e-6)
    assert table.diff(dim=1).max() <= 1e-6


def test_curves_are_those_of_cubic_beziers() -> None:
    """The spread of many curves at some intensities is that of Beziers drawn plainly."""
    chance = np.random.default_rng(0)
    t = np.linspace(0, 1, 2001)
    at = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
    expected = []
    for _ in range(4000):
        (x1, y1), (x2, y2) = chance.random((2, 2))
        x, y = (3 * (1 - t) ** 2 * t * a + 3 * (1 - t) * t**2 * b + t**3 for a, b in ((x1, x2), (y1, y2)))
        expected.append(np.interp(at, x, y))
    table = draw(4000).table.numpy()
    found = table[:, np.rint(at * (table.shape[1] - 1)).astype(int)]
    for share in (10, 25, 50, 75, 90):
        np.testing.assert_allclose(
            np.percentile(found, share, axis=0), np.percentile(expected, share, axis=0), atol=0.02
        )


def test_intensities_go_through_their_volumes_curve() -> None:
    drawn, volumes = draw(3, seed=1), image(3, 2, 6, 7, 8)
    changed = change_intensity(volumes, drawn)
    levels = np.linspace(0, 1, drawn.table.shape[1])
    for index in range(3):
        expected = np.interp(volumes[index].numpy(), levels, drawn.table[index].numpy())
        np.testing.assert_allclose(changed[index].numpy(), expected, atol=1e-5)
    assert not torch.equal(drawn.table[0], drawn.table[1])


def test_order_and_ends_are_kept() -> None:
    levels = torch.linspace(0, 1, 5001).view(1, 1, 1, 1, -1).expand(6, -1, -1, -1, -1)
    changed = change_intensity(levels, draw(6, seed=2)).flatten(1)
    assert changed.diff(dim=1).min() >= -1e-6
    assert changed[:, 0].abs().max() == 0
    assert (changed[:, -1] - 1).abs().max() < 1e-6
    fallen = change_intensity(levels, draw(6, seed=2, falling=1.0)).flatten(1)
    torch.testing.assert_close(fallen, 1 - changed, rtol=0, atol=1e-6)


def test_what_is_out_of_range_is_cut_off() -> None:
    changed = change_intensity(torch.tensor([-0.5, 0, 1, 1.5]).view(1, 1, 1, 1, 4), draw(1))
    assert changed.flatten().tolist() == pytest.approx([0, 0, 1, 1], abs=1e-6)


@pytest.mark.parametrize("rate", [0.0, 0.9, 1.0])
def test_the_rate_is_kept(rate: float) -> None:
    volumes = image(600, 1, 2, 2, 2)
    changed = (change_intensity(volumes, draw(600, rate=rate)) != volumes).flatten(1).any(dim=1)
    assert changed.float().mean().item() == pytest.approx(rate, abs=0.04 if 0 < rate < 1 else 0)


def test_the_share_of_falling_curves_is_kept() -> None:
    falls = draw(1000, falling=0.3).table[:, 0] == 1
    assert falls.float().mean().item() == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_type_is_kept(dtype: torch.dtype) -> None:
    volumes = image(1, 1, 6, 7, 8).to(dtype)
    changed = change_intensity(volumes, draw(1))
    assert changed.dtype == dtype
    torch.testing.assert_close(changed, change_intensity(volumes.float(), draw(1)).to(dtype))
