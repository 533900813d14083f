import pytest
import torch
from torch import Tensor

from gvsl.heads import DeformableHead


def features(batch: int, seed: int, channels: int = 8) -> Tensor:
    return torch.randn((batch, channels, 5, 6, 7), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def head() -> DeformableHead:
    torch.manual_seed(0)
    return DeformableHead(8)


def test_it_starts_within_a_thousandth_of_a_voxel_of_no_motion(head: DeformableHead) -> None:
    field = head(features(2, 1), features(2, 2))
    assert field.shape == (2, 3, 5, 6, 7)
    assert 0 < field.abs().max() < 1e-3


def test_which_volume_moves_matters(head: DeformableHead) -> None:
    one, other = features(1, 1), features(1, 2)
    assert not torch.allclose(head(one, other), head(other, one), rtol=0, atol=1e-6)


def test_a_batch_is_what_its_pairs_are_alone(head: DeformableHead) -> None:
    torch.nn.init.normal_(head.field.weight)
    moving, fixed = features(3, 1), features(3, 2)
    alone = torch.cat([head(moving[[index]], fixed[[index]]) for index in range(3)])
    torch.testing.assert_close(head(moving, fixed), alone, rtol=1e-4, atol=1e-4)


def test_the_field_is_float32_under_autocast(head: DeformableHead) -> None:
    """In bf16 a field about 8 voxels would move in steps of 1/16."""
    torch.nn.init.normal_(head.field.weight, std=1e-3)
    assert head.field.bias is not None
    torch.nn.init.constant_(head.field.bias, 8.0)
    with torch.autocast("cpu", torch.bfloat16):
        field = head(features(1, 1), features(1, 2))
    assert field.dtype == torch.float32
    assert not torch.equal(field, field.bfloat16().float())
    torch.testing.assert_close(field, head(features(1, 1), features(1, 2)), rtol=0, atol=1e-2)
