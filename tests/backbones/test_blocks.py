import pytest
import torch
from torch import Tensor, nn

from gvsl.backbones.blocks import Convolution, conv_group


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_group_is_convolution_group_norm_and_leaky_relu() -> None:
    group = conv_group(3, 24)
    convolution, norm, activation = group
    assert isinstance(convolution, nn.Conv3d)
    assert isinstance(norm, nn.GroupNorm)
    assert isinstance(activation, nn.LeakyReLU)
    assert (convolution.in_channels, convolution.out_channels, convolution.kernel_size) == (3, 24, (3, 3, 3))
    assert (norm.num_groups, norm.num_channels) == (3, 24)
    assert activation.negative_slope == 0.2
    features = noise(2, 3, 5, 6, 7)
    normed = norm(convolution(features))
    torch.testing.assert_close(group(features), torch.where(normed > 0, normed, 0.2 * normed))


def test_the_initialisation_keeps_the_variance_through_the_activation() -> None:
    torch.manual_seed(0)
    convolution = conv_group(16, 64)[0]
    assert isinstance(convolution, nn.Conv3d)
    assert convolution.bias is not None
    assert not convolution.bias.any()
    expected = (2 / ((1 + 0.2**2) * 16 * 27)) ** 0.5
    assert convolution.weight.std().item() == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 2, 2), (2, 3, 4), (1, 1, 1)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_bf16_gradients_are_those_of_fp32(shape: tuple[int, int, int], layout: torch.memory_format) -> None:
    """PyTorch 2.13 leaves a part of them uninitialised on the CPU where the first side is 2."""
    torch.manual_seed(0)
    convolution = Convolution(8, 16).to(memory_format=layout)  # type: ignore[call-overload]
    found = []
    for enabled in (False, True):
        convolution.zero_grad()
        features = noise(2, 8, *shape, seed=1).contiguous(memory_format=layout).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            convolved = convolution(features)
        (convolved.float() * noise(2, 16, *shape, seed=2)).sum().backward()
        found.append([convolution.weight.grad, convolution.bias.grad, features.grad])
    for exact, rounded in zip(*found, strict=True):
        assert (exact - rounded).norm() < 0.02 * exact.norm()


def test_a_convolution_keeps_the_size() -> None:
    assert Convolution(2, 5)(noise(1, 2, 3, 1, 7)).shape == (1, 5, 3, 1, 7)
