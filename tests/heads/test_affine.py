import math

import pytest
import torch
from torch import Tensor, nn

from gvsl.geometry import affine_dvf, affine_matrix
from gvsl.heads import AffineHead

SHAPE = (24, 32, 40)


def features(batch: int, seed: int, channels: int = 16) -> Tensor:
    return torch.randn((batch, channels, 2, 2, 3), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def head() -> AffineHead:
    torch.manual_seed(0)
    return AffineHead(16)


def layers(head: AffineHead) -> list[nn.Linear]:
    return [head.rotation, head.translation, head.scale, head.shear]


def set_outputs(head: AffineHead, value: float) -> None:
    """Have every linear layer give `value` before its bound, whatever the features."""
    with torch.no_grad():
        for layer in layers(head):
            layer.weight.zero_()
            layer.bias.fill_(value)


def test_it_has_fifteen_outputs(head: AffineHead) -> None:
    assert [layer.out_features for layer in layers(head)] == [3, 3, 3, 6]


def test_it_starts_within_a_hundredth_of_a_voxel_of_the_identity(head: AffineHead) -> None:
    matrix = head(features(4, 1), features(4, 2), SHAPE)
    assert matrix.shape == (4, 4, 4)
    dvf = affine_dvf(matrix, SHAPE)
    assert 0 < dvf.abs().max() < 0.02


@pytest.mark.parametrize("value", [-1.5, 0.4, 2.0])
def test_each_output_is_bounded_by_its_tanh(head: AffineHead, value: float) -> None:
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
def test_no_output_loses_its_gradient_at_the_bounds(head: AffineHead, value: float) -> None:
    """Where a hard clamp to the same range would have cut it off."""
    set_outputs(head, value)
    weights = torch.arange(1.0, 17).sqrt().view(4, 4)
    (head(features(1, 1), features(1, 2), SHAPE) * weights).sum().backward()
    for layer in layers(head):
        assert layer.bias.grad is not None
        assert layer.weight.grad is not None
        assert layer.bias.grad.abs().min() > 1e-5
        assert layer.weight.grad.abs().amax(dim=1).min() > 1e-6


def test_which_volume_moves_matters(head: AffineHead) -> None:
    one, other = features(1, 1), features(1, 2)
    assert not torch.allclose(head(one, other, SHAPE), head(other, one, SHAPE), rtol=0, atol=1e-7)


def test_a_batch_is_what_its_pairs_are_alone(head: AffineHead) -> None:
    for layer in layers(head):
        nn.init.normal_(layer.weight, std=0.5)
    moving, fixed = features(3, 1), features(3, 2)
    alone = torch.cat([head(moving[[index]], fixed[[index]], SHAPE) for index in range(3)])
    torch.testing.assert_close(head(moving, fixed, SHAPE), alone, rtol=1e-4, atol=1e-4)


def test_the_matrix_is_float32_under_autocast(head: AffineHead) -> None:
    expected = head(features(1, 1), features(1, 2), SHAPE)
    with torch.autocast("cpu", torch.bfloat16):
        found = head(features(1, 1), features(1, 2), SHAPE)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
