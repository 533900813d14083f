import torch
from torch import Tensor
from torch.nn import functional

from gvsl.heads import PyramidHead
from gvsl.heads.pyramid import _correlations

SHAPE = (12, 16, 20)


def features(batch: int, seed: int, channels: int = 8) -> Tensor:
    return torch.randn((batch, channels, *SHAPE), generator=torch.Generator().manual_seed(seed))


def head() -> PyramidHead:
    torch.manual_seed(0)
    return PyramidHead(8)


def test_the_field_starts_near_zero_and_any_size_passes() -> None:
    assert head()(features(2, 1), features(2, 2)).abs().max() < 0.5  # voxels
    odd = torch.randn(1, 8, 9, 13, 7, generator=torch.Generator().manual_seed(3))
    assert head()(odd, odd).shape == (1, 3, 9, 13, 7)


def test_correlations_are_the_cosines_of_all_offsets() -> None:
    moving, fixed = features(1, 1), features(1, 2)
    found = _correlations(moving, fixed, 1)
    assert found.shape == (1, 27, *SHAPE)
    number = (0 * 3 + 1) * 3 + 2  # one voxel back along the first axis, one forward along the last
    expected = functional.cosine_similarity(moving[0, :, 4, 7, 12], fixed[0, :, 5, 7, 11], dim=0)
    torch.testing.assert_close(found[0, number, 5, 7, 11], expected)
    assert not found[0, 0, 0].any()  # beyond the border


def test_a_shifted_volume_correlates_at_its_shift() -> None:
    fixed = features(1, 2)
    best = _correlations(fixed.roll(1, dims=3), fixed, 1)[..., 1:-1, 1:-1, 1:-1].argmax(dim=1)
    assert (best == (1 * 3 + 2) * 3 + 1).all()


def test_a_batch_is_what_its_pairs_are_alone() -> None:
    network, moving, fixed = head(), features(3, 1), features(3, 2)
    alone = torch.cat([network(moving[[index]], fixed[[index]]) for index in range(3)])
    torch.testing.assert_close(network(moving, fixed), alone, rtol=0, atol=1e-4)


def test_every_level_gets_a_gradient_and_the_field_is_float32_under_autocast() -> None:
    network = head()
    with torch.autocast("cpu", torch.bfloat16):
        field = network(features(1, 1), features(1, 2))
    assert field.dtype == torch.float32
    field.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.any()), name
