import torch

from gvsl.augment import draw_flip, draw_mirror, flip


def test_volumes_are_flipped_along_one_drawn_axis() -> None:
    draw = draw_flip(300, 0.4, torch.Generator().manual_seed(0)).view(300, 3)
    assert draw.sum(dim=1).max() == 1
    assert 90 < draw.any(dim=1).sum() < 150
    assert draw.sum(dim=0).min() > 20
    volumes = torch.rand(3, 1, 3, 4, 5)
    flipped = flip(volumes, torch.eye(3, dtype=torch.bool).view(3, 3, 1, 1, 1, 1))
    for axis in range(3):
        assert torch.equal(flipped[axis], volumes[axis].flip(1 + axis))
    assert torch.equal(flip(volumes, torch.zeros(3, 3, 1, 1, 1, 1, dtype=torch.bool)), volumes)


def test_each_given_axis_is_mirrored_half_of_the_time_by_itself() -> None:
    draw = draw_mirror(400, (0, 2), torch.Generator().manual_seed(0)).view(400, 3)
    assert not draw[:, 1].any()
    for axis in (0, 2):
        assert 160 < draw[:, axis].sum() < 240
    assert 60 < draw[:, (0, 2)].all(dim=1).sum() < 140
