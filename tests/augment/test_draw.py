from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from gvsl.augment import (
    AppearanceSettings,
    SpatialSettings,
    draw_appearance,
    draw_inpaint,
    draw_intensity,
    draw_shuffle,
    draw_spatial,
)
from gvsl.augment.draw import ShareGenerator, bernoulli, box_mask, boxes, on_host, randint, seeded_by, uniform

SHAPE = (20, 24, 28)
DRAWS: dict[str, Callable[[Generator], object]] = {
    "appearance": lambda generator: draw_appearance(2, SHAPE, AppearanceSettings(), generator),
    "boxes": lambda generator: boxes(2, 3, SHAPE, (0.1, 0.3), generator),
    "bernoulli": lambda generator: bernoulli(64, 0.5, generator),
    "inpaint": lambda generator: draw_inpaint(2, SHAPE, 1.0, generator),
    "intensity": lambda generator: draw_intensity(2, 1.0, generator, falling=0.5),
    "shuffle": lambda generator: draw_shuffle(2, SHAPE, 1.0, generator),
    "spatial": lambda generator: draw_spatial(2, SHAPE, SpatialSettings(), generator),
    "uniform": lambda generator: uniform((5,), 0, 1, generator),
}


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def tensors(drawn: object) -> list[Tensor]:
    """All tensors of a draw, however they are nested."""
    if isinstance(drawn, Tensor):
        return [drawn]
    return [tensor for part in drawn for tensor in tensors(part)] if isinstance(drawn, tuple) else []


@pytest.mark.parametrize("name", DRAWS)
def test_a_draw_is_made_by_its_generator_alone(name: str) -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - what must not be used
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    first = tensors(DRAWS[name](generator(5)))
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # type: ignore[index]  # noqa: NPY002
    torch.manual_seed(2)
    again, other = tensors(DRAWS[name](generator(5))), tensors(DRAWS[name](generator(6)))
    assert first
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not all(torch.equal(one, two) for one, two in zip(first, other, strict=True))


def test_uniform_fills_its_range() -> None:
    drawn = uniform((10_000,), -3, 5, generator())
    assert drawn.dtype == torch.float32
    assert -3 <= drawn.min() < -2.99
    assert 4.99 < drawn.max() <= 5
    assert drawn.mean().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_it_happens_at_its_rate(rate: float) -> None:
    drawn = bernoulli(4000, rate, generator())
    assert (drawn.shape, drawn.dtype) == ((4000, 1, 1, 1, 1), torch.bool)
    assert drawn.float().mean().item() == pytest.approx(rate, abs=0.03 if 0 < rate < 1 else 0)


@settings(max_examples=25, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 60)] * 3), seed=st.integers(0, 999))
def test_boxes_lie_inside_with_sides_in_their_range(shape: tuple[int, int, int], seed: int) -> None:
    start, stop = boxes(2, 50, shape, (0.1, 0.2), generator(seed))
    assert start.shape == stop.shape == (2, 50, 3)
    for axis, side in enumerate(shape):
        sides = stop[..., axis] - start[..., axis]
        assert sides.min() >= max(1, round(0.1 * side - 1e-6))
        assert sides.max() <= max(1, round(0.2 * side + 1e-6))
        assert start[..., axis].min() >= 0
        assert stop[..., axis].max() <= side


def test_boxes_reach_every_voxel_and_every_side() -> None:
    start, stop = boxes(1, 4000, SHAPE, (0.1, 0.2), generator())
    for axis, side in enumerate(SHAPE):
        assert start[..., axis].min() == 0
        assert stop[..., axis].max() == side
        found = (stop - start)[..., axis].unique().tolist()
        assert found == list(range(round(0.1 * side), round(0.2 * side) + 1))


def test_a_mask_is_the_union_of_its_boxes() -> None:
    start, stop = boxes(2, 4, SHAPE, (0.1, 0.5), generator())
    stop[1, 2] = start[1, 2]  # an empty one
    expected = np.zeros((2, 1, *SHAPE), dtype=bool)
    for batch in range(2):
        for first, last in zip(start[batch].tolist(), stop[batch].tolist(), strict=True):
            expected[batch, 0][tuple(slice(one, two) for one, two in zip(first, last, strict=True))] = True
    np.testing.assert_array_equal(box_mask(start, stop, SHAPE).numpy(), expected)


def test_numbers_for_the_host_follow_the_state_and_are_shared_out_alike() -> None:
    """On a GPU a generator on the host is seeded by the state of the device's; on a CPU it is the same one."""
    generator = torch.Generator().manual_seed(3)
    assert on_host(generator) is generator
    state = generator.get_state().numpy().tobytes()
    first, again, other = (seeded_by(part, generator) for part in (state, state, state[::-1]))
    drawn = torch.rand(4, generator=first)
    assert torch.equal(drawn, torch.rand(4, generator=again))
    assert not torch.equal(drawn, torch.rand(4, generator=other))
    whole = randint(0, 1000, (6,), seeded_by(state, generator))
    device = torch.device("cpu")
    parts = [randint(0, 1000, (3,), seeded_by(state, ShareGenerator(device, rank, 2, 3))) for rank in range(2)]
    assert torch.equal(torch.cat(parts), whole)
