from itertools import combinations

import numpy as np
import pytest
import torch

from gvsl.augment import ROTATIONS, draw_flips, flip, rotate, rotate_back

CUBE = torch.rand(1, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
ALL = torch.arange(ROTATIONS)


def test_the_ten_rotations_are_ten_different_ones() -> None:
    turned = rotate(CUBE.expand(ROTATIONS, -1, -1, -1, -1), ALL)
    assert torch.equal(turned[:1], CUBE)
    assert not any(torch.equal(one, other) for one, other in combinations(turned, 2))


def test_turning_back_gives_the_volume_back() -> None:
    volumes = CUBE.expand(ROTATIONS, -1, -1, -1, -1)
    assert torch.equal(rotate_back(rotate(volumes, ALL), ALL), volumes)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_they_are_right_angles_about_each_axis(axis: int, turns: int) -> None:
    plane = [other for other in range(3) if other != axis]
    expected = np.rot90(CUBE[0, 0].numpy(), turns, (plane[0], plane[1]))
    found = rotate(CUBE, torch.tensor([3 * axis + turns]))
    assert np.array_equal(found[0, 0].numpy(), expected)


def test_flips_are_those_drawn_for_each_volume() -> None:
    volumes = CUBE.repeat(2, 2, 1, 1, 1)
    flips = torch.tensor([[True, False, True], [False, True, False]])
    found = flip(volumes, flips)
    assert torch.equal(found[0], volumes[0].flip(1, 3))
    assert torch.equal(found[1], volumes[1].flip(2))
    assert torch.equal(flip(found, flips), volumes)


def test_flips_have_their_rate() -> None:
    drawn = draw_flips(4000, 0.4, torch.Generator().manual_seed(0)).double()
    assert drawn.shape == (4000, 3)
    assert (drawn.mean(dim=0) - 0.4).abs().max() < 5 * (0.24 / 4000) ** 0.5
