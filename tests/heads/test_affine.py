import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gvsl.geometry import affine_dvf, affine_matrix, affine_positions
from gvsl.heads import KeypointAffineHead, PooledAffineHead
from gvsl.heads.affine import fit_affine

SHAPE = (24, 32, 40)


def features(batch: int, seed: int, channels: int = 16) -> Tensor:
    return torch.randn((batch, channels, 2, 2, 3), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def head() -> PooledAffineHead:
    torch.manual_seed(0)
    return PooledAffineHead(16)


def layers(head: PooledAffineHead) -> list[nn.Linear]:
    return [head.rotation, head.translation, head.scale, head.shear]


def set_outputs(head: PooledAffineHead, value: float) -> None:
    """Have every linear layer give `value` before its bound, whatever the features."""
    with torch.no_grad():
        for layer in layers(head):
            layer.weight.zero_()
            layer.bias.fill_(value)


def test_it_has_fifteen_outputs(head: PooledAffineHead) -> None:
    assert [layer.out_features for layer in layers(head)] == [3, 3, 3, 6]


def test_it_starts_within_a_hundredth_of_a_voxel_of_the_identity(head: PooledAffineHead) -> None:
    matrix = head(features(4, 1), features(4, 2), SHAPE)
    assert matrix.shape == (4, 4, 4)
    dvf = affine_dvf(matrix, SHAPE)
    assert 0 < dvf.abs().max() < 0.02


@pytest.mark.parametrize("value", [-1.5, 0.4, 2.0])
def test_each_output_is_bounded_by_its_tanh(head: PooledAffineHead, value: float) -> None:
    """20 degrees, a quarter of each axis' own side, 0.75 to 1.25, tan of 10 degrees."""
    set_outputs(head, value)
    part = math.tanh(value)
    expected = affine_matrix(
        torch.full((1, 3), math.radians(20) * part),
        torch.tensor([[6.0, 8, 10]]) * part,
        torch.full((1, 3), 1 + 0.25 * part),
        torch.full((1, 6), math.tan(math.radians(10)) * part),
    )
    torch.testing.assert_close(head(features(1, 1), features(1, 2), SHAPE), expected)


@pytest.mark.parametrize("value", [0.0, 1.0, 3.0, -3.0])
def test_no_output_loses_its_gradient_at_the_bounds(head: PooledAffineHead, value: float) -> None:
    """Where a hard clamp to the same range would have cut it off."""
    set_outputs(head, value)
    weights = torch.arange(1.0, 17).sqrt().view(4, 4)
    (head(features(1, 1), features(1, 2), SHAPE) * weights).sum().backward()
    for layer in layers(head):
        assert layer.bias.grad is not None
        assert layer.weight.grad is not None
        assert layer.bias.grad.abs().min() > 1e-5
        assert layer.weight.grad.abs().amax(dim=1).min() > 1e-6


def test_which_volume_moves_matters(head: PooledAffineHead) -> None:
    one, other = features(1, 1), features(1, 2)
    assert not torch.allclose(head(one, other, SHAPE), head(other, one, SHAPE), rtol=0, atol=1e-7)


def test_a_batch_is_what_its_pairs_are_alone(head: PooledAffineHead) -> None:
    for layer in layers(head):
        nn.init.normal_(layer.weight, std=0.5)
    moving, fixed = features(3, 1), features(3, 2)
    alone = torch.cat([head(moving[[index]], fixed[[index]], SHAPE) for index in range(3)])
    torch.testing.assert_close(head(moving, fixed, SHAPE), alone, rtol=1e-4, atol=1e-4)


def test_the_matrix_is_float32_under_autocast(head: PooledAffineHead) -> None:
    expected = head(features(1, 1), features(1, 2), SHAPE)
    with torch.autocast("cpu", torch.bfloat16):
        found = head(features(1, 1), features(1, 2), SHAPE)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def random_affine(seed: int) -> Tensor:
    values = torch.rand(3, 6, generator=torch.Generator().manual_seed(seed)).double() - 0.5
    return affine_matrix(0.4 * values[:1, :3], 6 * values[:1, 3:], 1 + 0.3 * values[1:2, :3], 0.2 * values[2:3])


@pytest.mark.parametrize("seed", range(3))
def test_the_map_between_mapped_points_is_found(seed: int) -> None:
    points = 12 * torch.randn(1, 64, 3, generator=torch.Generator().manual_seed(seed)).double()
    matrix = random_affine(seed)
    mapped = points @ matrix[:, :3, :3].mT + matrix[:, None, :3, 3]
    found = fit_affine(points, mapped, torch.rand(1, 64).double() + 0.1, (32, 48, 32))
    shape = (5, 5, 5)
    grid = torch.stack(torch.meshgrid(*[torch.arange(5.0).double()] * 3, indexing="ij"))[None]
    torch.testing.assert_close(
        affine_positions(found, grid, shape), affine_positions(matrix, grid, shape), rtol=0, atol=0.3
    )


def test_points_without_weight_do_not_count_and_few_points_leave_the_identity() -> None:
    points = 12 * torch.randn(1, 64, 3, generator=torch.Generator().manual_seed(0))
    wrong = points.clone()
    wrong[:, 32:] += 40
    weights = torch.ones(1, 64)
    weights[:, 32:] = 1e-9
    torch.testing.assert_close(fit_affine(points, wrong, weights, (32, 32, 32)), torch.eye(4)[None], rtol=0, atol=1e-3)
    single = points[:, :1].repeat(1, 64, 1)
    found = fit_affine(single, single, torch.ones(1, 64), (32, 32, 32))
    torch.testing.assert_close(found, torch.eye(4)[None], rtol=0, atol=1e-3)


def test_key_points_follow_what_they_show() -> None:
    """A blob moved by two cells moves its key points by as many voxels as two cells have."""
    head = KeypointAffineHead(channels=4, keypoints=4)
    with torch.no_grad():
        head.heatmaps.weight.copy_(torch.eye(4).view(4, 4, 1, 1, 1))
        head.heatmaps.bias.zero_()  # type: ignore[union-attr]
    maps = torch.zeros(1, 4, 8, 8, 8)
    maps[0, torch.arange(4), [2, 3, 4, 5], [4, 3, 2, 4], [3, 4, 2, 3]] = 20
    before, sharpness = head.keypoints(maps, (32, 32, 32))
    after, _ = head.keypoints(maps.roll(2, dims=2), (32, 32, 32))
    torch.testing.assert_close(after - before, torch.tensor([8.0, 0, 0]).expand(1, 4, 3), rtol=0, atol=1e-2)
    assert sharpness.min() > 6  # ln 512 = 6.2 for a single cell


def test_key_points_leave_no_feature_without_a_gradient() -> None:
    torch.manual_seed(0)
    head = KeypointAffineHead(channels=16)
    moving, fixed = (features(2, seed).requires_grad_() for seed in (1, 2))
    head(moving, fixed, SHAPE)[:, :3].square().sum().backward()
    for volume in (moving, fixed):
        assert volume.grad is not None
        assert (volume.grad.abs().sum(dim=1) > 0).all()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in head.parameters())


@pytest.mark.parametrize("side", [40, 48])
def test_key_points_lie_where_the_network_saw_them(side: int) -> None:
    """The last cell of a side that the levels don't divide is shorter, and so are the means of what pools to it."""
    coordinates = torch.arange(side, dtype=torch.float32).view(1, 1, side, 1, 1) - (side - 1) / 2
    pooled = functional.avg_pool3d(coordinates.expand(1, 1, side, 1, 1), (16, 1, 1), ceil_mode=True)
    head = KeypointAffineHead(channels=1, keypoints=1)
    with torch.no_grad():
        head.heatmaps.weight.fill_(1)
        head.heatmaps.bias.zero_()  # type: ignore[union-attr]
    for cell, expected in enumerate(pooled.flatten().tolist()):
        sharp = torch.zeros(1, 1, len(pooled.flatten()), 1, 1)
        sharp[0, 0, cell] = 100
        position, _ = head.keypoints(sharp, (side, 1, 1))
        assert position[0, 0, 0].item() == pytest.approx(expected, abs=1e-3)
