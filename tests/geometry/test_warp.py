from collections.abc import Iterator
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from gvsl.geometry import identity_grid, inside, warp

Padding = Literal["zeros", "border"]
SHAPES = [(24, 24, 24), (24, 32, 40), (13, 7, 17)]


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def constant_field(shift: tuple[float, float, float], shape: tuple[int, int, int]) -> Tensor:
    return torch.tensor(shift).view(1, 3, 1, 1, 1).expand(1, 3, *shape).contiguous()


def shifted(image: Tensor, shift: tuple[int, int, int]) -> Tensor:
    """out(p) = image(p + shift), 0 where that is outside, in plain slices."""
    out = torch.zeros_like(image)
    to, of = [slice(None)] * 2, [slice(None)] * 2
    for side, step in zip(image.shape[2:], shift, strict=True):
        to.append(slice(max(0, -step), max(0, min(side, side - step))))
        of.append(slice(max(0, step), max(0, min(side, side + step))))
    out[tuple(to)] = image[tuple(of)]
    return out


@pytest.fixture
def threads() -> Iterator[None]:
    """Four threads, so that channels are shared out however many cores there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_zero_field_is_the_identity(shape: tuple[int, int, int], padding: Padding) -> None:
    image = noise(2, 3, *shape)
    warped = warp(image, torch.zeros(2, 3, *shape), padding=padding)
    torch.testing.assert_close(warped, image, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("shift", [(1, 0, 0), (0, -2, 0), (0, 0, 3), (-3, 2, 1)])
def test_an_integer_shift_is_the_shifted_volume(shape: tuple[int, int, int], shift: tuple[int, int, int]) -> None:
    image = noise(1, 2, *shape)
    warped = warp(image, constant_field(shift, shape))
    torch.testing.assert_close(warped, shifted(image, shift), rtol=0, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(*[st.integers(2, 9)] * 3),
    shift=st.tuples(*[st.integers(-10, 10)] * 3),
    seed=st.integers(0, 99),
)
def test_any_integer_shift_of_any_volume(shape: tuple[int, int, int], shift: tuple[int, int, int], seed: int) -> None:
    image = noise(1, 1, *shape, seed=seed)
    torch.testing.assert_close(warp(image, constant_field(shift, shape)), shifted(image, shift), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("padding", "mode"), [("zeros", "grid-constant"), ("border", "nearest")])
def test_trilinear_interpolation_is_scipys(padding: Padding, mode: str) -> None:
    shape = (6, 9, 7)
    image, dvf = noise(1, 1, *shape, seed=1), 8 * noise(1, 3, *shape, seed=2) - 4
    positions = np.indices(shape) + dvf[0].numpy().astype(np.float64)
    expected = ndimage.map_coordinates(image[0, 0].numpy().astype(np.float64), positions, order=1, mode=mode)
    np.testing.assert_allclose(warp(image, dvf, padding=padding)[0, 0].numpy(), expected, atol=1e-6)


def test_nearest_takes_the_nearest_label_and_makes_no_new_one() -> None:
    labels = torch.tensor([0.0, 7, 3, 3, 9]).view(1, 1, 5, 1, 1).expand(1, 1, 5, 2, 2).contiguous()
    moved = warp(labels, constant_field((0.7, 0, 0), (5, 2, 2)), mode="nearest")
    assert moved[0, 0, :, 0, 0].tolist() == [7, 3, 3, 9, 0]


def test_the_output_has_the_fields_grid() -> None:
    image = noise(1, 2, 8, 9, 10)
    dvf = constant_field((2, 3, 4), (4, 5, 6))
    torch.testing.assert_close(warp(image, dvf), image[:, :, 2:6, 3:8, 4:10], rtol=0, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3, 4, 8])
@pytest.mark.usefixtures("threads")
def test_channels_shared_among_threads_stay_in_order(channels: int) -> None:
    image, dvf = noise(2, channels, 5, 6, 7), 2 * noise(2, 3, 5, 6, 7, seed=3) - 1
    apart = torch.cat([warp(image[:, [channel]], dvf) for channel in range(channels)], dim=1)
    torch.testing.assert_close(warp(image, dvf), apart, rtol=0, atol=1e-6)


def test_a_batch_is_what_its_volumes_are_alone() -> None:
    image, dvf = noise(3, 2, 5, 6, 7), 4 * noise(3, 3, 5, 6, 7, seed=3) - 2
    alone = torch.cat([warp(image[[index]], dvf[[index]]) for index in range(3)])
    torch.testing.assert_close(warp(image, dvf), alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("exact", [True, False])
def test_autocast_costs_no_precision_and_the_type_is_kept(exact: bool) -> None:
    image, dvf = noise(1, 2, 24, 32, 40), 4 * noise(1, 3, 24, 32, 40, seed=3) - 2
    with torch.autocast("cpu", torch.bfloat16):
        warped = warp(image, dvf, exact=exact)
    torch.testing.assert_close(warped, warp(image, dvf), rtol=0, atol=2e-5)
    assert warp(image.bfloat16(), dvf, exact=exact).dtype == torch.bfloat16


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_gradient(padding: Padding) -> None:
    image = noise(2, 2, 3, 4, 5, seed=1, dtype=torch.float64).requires_grad_()
    # Between 0.2 and 0.8 of a voxel off the grid, where the interpolation has a derivative.
    whole = torch.randint(-2, 3, (2, 3, 3, 4, 5), generator=torch.Generator().manual_seed(2))
    dvf = (whole + 0.2 + 0.6 * noise(2, 3, 3, 4, 5, seed=3, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda i, d: warp(i, d, padding=padding), (image, dvf))


def test_inside_is_where_every_component_is_in_the_volume() -> None:
    shape = (4, 5, 6)
    dvf = 6 * noise(2, 3, *shape) - 3
    for sampled in (None, (7, 3, 6)):
        positions = (identity_grid(shape, dtype=torch.float32, device="cpu") + dvf).numpy()
        expected = np.ones((2, 1, *shape), dtype=bool)
        for axis, side in enumerate(sampled or shape):
            expected[:, 0] &= (positions[:, axis] >= 0) & (positions[:, axis] <= side - 1)
        assert 0.1 < expected.mean() < 0.9
        np.testing.assert_array_equal(inside(dvf, sampled).numpy(), expected)


def test_a_zero_field_looks_inside_everywhere() -> None:
    assert inside(torch.zeros(1, 3, 24, 32, 40)).all()
