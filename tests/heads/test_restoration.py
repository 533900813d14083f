import pytest
import torch
from torch import Tensor

from gvsl.heads import RestorationHead


def features(batch: int) -> Tensor:
    return torch.randn((batch, 8, 5, 6, 7), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("channels", [1, 2])
def test_it_gives_a_volume_of_the_same_size(channels: int) -> None:
    assert RestorationHead(8, channels)(features(2)).shape == (2, channels, 5, 6, 7)


def test_a_batch_is_what_its_volumes_are_alone() -> None:
    torch.manual_seed(0)
    head, local = RestorationHead(8), features(3)
    alone = torch.cat([head(local[[index]]) for index in range(3)])
    torch.testing.assert_close(head(local), alone, rtol=1e-4, atol=1e-5)


def test_it_can_learn_any_intensity() -> None:
    """Nothing bounds what it gives, so that no gradient is lost at 0 or 1."""
    torch.manual_seed(0)
    head = RestorationHead(8)
    assert head.intensity.bias is not None
    with torch.no_grad():
        head.intensity.bias.fill_(-3.0)
    assert head(features(1)).mean() < -2
