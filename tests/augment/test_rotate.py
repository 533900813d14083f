from itertools import combinations

import pytest
import torch

from gvsl.augment import ROTATIONS, draw_rotation, rotate


def test_the_ten_are_ten_different_rotations_that_can_be_undone() -> None:
    volume = torch.arange(2 * 4**3, dtype=torch.float32).view(1, 2, 4, 4, 4)
    volumes = volume.expand(10, -1, -1, -1, -1)
    every = torch.arange(10)
    turned = rotate(volumes, every)
    assert torch.equal(turned[0], volume[0])
    assert not any(torch.equal(turned[one], turned[other]) for one, other in combinations(range(10), 2))
    for result, (quarters, plane) in zip(turned.split(1), ROTATIONS, strict=True):
        assert torch.equal(torch.rot90(result, -quarters, plane)[0], volume[0])
    for result in turned:  # nothing but places changes
        assert torch.equal(result.flatten().sort().values, volume.flatten())


def test_they_are_rotations_and_no_mirror_images() -> None:
    """Three marks on the axes keep their handedness."""
    for index, (quarters, plane) in enumerate(ROTATIONS):
        volume = torch.zeros(1, 1, 3, 3, 3)
        for mark, place in enumerate(torch.eye(3, dtype=torch.long), 1):
            volume[(0, 0, *(1 + place).tolist())] = mark
        turned = rotate(volume, torch.tensor([index]))[0, 0]
        axes = torch.stack([(turned == mark).nonzero()[0].float() - 1 for mark in (1, 2, 3)])
        assert torch.det(axes).item() == pytest.approx(1), (quarters, plane)


def test_a_batch_is_turned_volume_by_volume() -> None:
    volumes = torch.rand(3, 1, 4, 4, 4)
    turned = rotate(volumes, torch.tensor([0, 5, 9]))
    for index, rotation in enumerate((0, 5, 9)):
        alone = rotate(volumes[[index]], torch.tensor([rotation]))
        assert torch.equal(turned[[index]], alone)


def test_all_ten_are_drawn() -> None:
    drawn = draw_rotation(1000, torch.Generator().manual_seed(0))
    assert torch.bincount(drawn, minlength=10).min() > 60
    assert drawn.max() == 9


def test_what_is_no_cube_is_refused() -> None:
    with pytest.raises(ValueError, match="not cubes"):
        rotate(torch.rand(1, 1, 4, 4, 5), torch.tensor([1]))
