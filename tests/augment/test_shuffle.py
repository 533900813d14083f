import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gvsl.augment import draw_shuffle, shuffle
from gvsl.geometry import identity_grid

Shape = tuple[int, int, int]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def largest_box(shape: Shape) -> list[int]:
    """A twentieth of each side, and at least two voxels."""
    return [max(2, round(side / 20)) for side in shape]


def moves(batch: int, shape: Shape, rate: float, seed: int) -> Tensor:
    """How far, in voxels, each voxel came: (B, 3, D, H, W)."""
    places = identity_grid(shape, dtype=torch.float32, device="cpu")
    shuffled = shuffle(places.expand(batch, -1, -1, -1, -1), draw_shuffle(batch, shape, rate, generator(seed)))
    return shuffled - places


@settings(max_examples=20, deadline=None)
@given(shape=st.tuples(*[st.integers(2, 50)] * 3), seed=st.integers(0, 999))
def test_a_shuffled_volume_holds_the_voxels_that_it_held(shape: Shape, seed: int) -> None:
    image = torch.rand((2, 1, *shape), generator=generator(seed))
    shuffled = shuffle(image, draw_shuffle(2, shape, 1.0, generator(seed)))
    assert shuffled.shape == image.shape
    assert torch.equal(shuffled.flatten(1).sort().values, image.flatten(1).sort().values)


@pytest.mark.parametrize("shape", [(24, 32, 40), (64, 64, 64), (100, 40, 71)])
def test_no_voxel_leaves_a_box_of_a_twentieth(shape: Shape) -> None:
    farthest = torch.stack([moves(2, shape, 1.0, seed).abs().amax(dim=(0, 2, 3, 4)) for seed in range(4)]).amax(dim=0)
    assert farthest.tolist() == [side - 1 for side in largest_box(shape)]


def test_every_voxel_has_its_turn() -> None:
    shape = (13, 8, 11)
    stays = torch.ones(shape, dtype=torch.bool)
    for seed in range(30):
        stays &= (moves(20, shape, 1.0, seed) == 0).all(dim=1).all(dim=0)
    assert not stays.any()


def test_many_voxels_move_and_many_stay() -> None:
    moved = (moves(4, (60, 60, 60), 1.0, 0) != 0).any(dim=1).float().mean()
    assert 0.15 < moved < 0.6


def test_the_rate_is_kept() -> None:
    shape = (8, 8, 8)
    assert not moves(4, shape, 0.0, 0).any()
    changed = moves(400, shape, 0.8, 0).flatten(1).any(dim=1)
    assert changed.float().mean().item() == pytest.approx(0.8, abs=0.06)


def test_volumes_of_a_batch_are_shuffled_apart_and_channels_together() -> None:
    image = torch.rand((1, 1, 24, 32, 40), generator=generator()).expand(2, 2, -1, -1, -1)
    shuffled = shuffle(image, draw_shuffle(2, (24, 32, 40), 1.0, generator()))
    assert not torch.equal(shuffled[0], shuffled[1])
    assert torch.equal(shuffled[:, 0], shuffled[:, 1])


def test_the_image_itself_is_left_alone() -> None:
    image = torch.rand((1, 1, 24, 24, 24), generator=generator())
    before = image.clone()
    shuffle(image, draw_shuffle(1, (24, 24, 24), 1.0, generator()))
    assert torch.equal(image, before)
