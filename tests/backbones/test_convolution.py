"""Convolutions by our own ways give the values and gradients of PyTorch's in float64."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gvsl.backbones.convolution import SMALL, SoundConv3d

# A small single volume with an even, an odd and the shortest first side; a large one; a batch.
SHAPES = [(1, 8, 6, 5, 4), (1, 3, 5, 6, 7), (1, 4, 1, 3, 2), (1, 8, 64, 48, 3), (2, 3, 5, 4, 6)]


def derived(
    convolution: SoundConv3d, image: Tensor, weight: Tensor, bias: Tensor, towards: Tensor
) -> tuple[Tensor, ...]:
    result = convolution.convolve(image, weight, bias)
    return (result, *torch.autograd.grad(result, (image, weight, bias), towards))


@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_are_those_of_a_plain_convolution(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    convolution = SoundConv3d(shape[1], 5, kernel_size=3, padding=1)
    image = torch.randn(shape, requires_grad=True)
    weight, bias = torch.randn(5, shape[1], 3, 3, 3, requires_grad=True), torch.randn(5, requires_grad=True)
    towards = torch.randn(shape[0], 5, *shape[2:])
    found = derived(convolution, image, weight, bias, towards)
    doubles = [each.detach().double().requires_grad_() for each in (image, weight, bias)]
    result = functional.conv3d(doubles[0], doubles[1], doubles[2], padding=1)
    expected = (result, *torch.autograd.grad(result, doubles, towards.double()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4 * float(other.detach().abs().max()))


def test_both_kinds_of_volumes_are_among_those_tested() -> None:
    sizes = [shape[1] * shape[2] * shape[3] for shape in SHAPES if shape[0] == 1]
    assert min(sizes) <= SMALL < max(sizes)


def test_weights_alone_get_a_gradient_where_features_need_none() -> None:
    convolution = SoundConv3d(2, 3, kernel_size=3, padding=1, bias=False)
    image = torch.randn(1, 2, 4, 4, 4)
    convolution(image).sum().backward()
    # Of the sum over the outputs, the gradient of a weight is the sum of the inputs that it meets.
    padded = functional.pad(image, [1] * 6)
    assert convolution.weight.grad is not None
    expected = torch.stack([padded[0, :, i : i + 4, j : j + 4, k : k + 4].sum((1, 2, 3)) for i, j, k in CORNERS])
    torch.testing.assert_close(convolution.weight.grad[0].flatten(1).T, expected, rtol=1e-4, atol=1e-4)


CORNERS = [(i, j, k) for i in range(3) for j in range(3) for k in range(3)]


@pytest.mark.parametrize(
    "convolution",
    [
        SoundConv3d(2, 4, 3, padding=1, padding_mode="circular"),
        SoundConv3d(2, 4, 3, padding=1, stride=2),
        SoundConv3d(2, 4, 3, padding=0),
        SoundConv3d(2, 4, 3, padding=1, dilation=2),
        SoundConv3d(2, 4, 5, padding=1),
        SoundConv3d(2, 4, 3, padding=1, groups=2),
    ],
)
def test_other_convolutions_are_those_of_pytorch(convolution: SoundConv3d) -> None:
    image = torch.randn(1, 2, 7, 7, 7)
    assert torch.equal(convolution(image), nn.Conv3d.forward(convolution, image))


def test_a_volume_without_a_batch_is_convolved_as_by_pytorch() -> None:
    convolution, image = SoundConv3d(2, 4, 3, padding=1), torch.randn(2, 7, 7, 7)
    assert torch.equal(convolution(image), nn.Conv3d.forward(convolution, image))


@pytest.mark.parametrize("shape", SHAPES)
def test_second_derivatives_are_those_of_pytorch(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    convolution = SoundConv3d(shape[1], 2, kernel_size=3, padding=1)
    image = torch.randn(shape, requires_grad=True)

    def penalised(forward: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
        loss = forward(image).sigmoid().square().sum()
        (slope,) = torch.autograd.grad(loss, image, create_graph=True)
        return torch.autograd.grad(slope.square().sum() + loss, (image, *convolution.parameters()))

    expected = penalised(lambda images: nn.Conv3d.forward(convolution, images))
    for one, other in zip(penalised(convolution), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


def test_gradients_of_each_sample_come_by_torch_func() -> None:
    torch.manual_seed(0)
    convolution, images = SoundConv3d(2, 3, kernel_size=3, padding=1), torch.randn(3, 1, 2, 4, 4, 4)
    parameters: dict[str, Tensor] = dict(convolution.named_parameters())

    def loss(values: dict[str, Tensor], image: Tensor) -> Tensor:
        return torch.func.functional_call(convolution, values, (image,)).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, images)["weight"]
    for each, image in zip(found, images, strict=True):
        (expected,) = torch.autograd.grad(convolution(image).square().sum(), convolution.weight)
        torch.testing.assert_close(each, expected, rtol=1e-4, atol=1e-3)


def test_forward_and_mixed_derivatives_are_those_of_pytorch() -> None:
    torch.manual_seed(0)
    convolution, image = SoundConv3d(1, 2, kernel_size=3, padding=1), torch.randn(1, 1, 2, 2, 3)

    def loss(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda volume: forward(volume).tanh().square().sum()

    plain, own = loss(lambda volume: nn.Conv3d.forward(convolution, volume)), loss(convolution)
    slope = torch.func.jvp(plain, (image,), (image.cos(),))[1]
    torch.testing.assert_close(torch.func.jvp(own, (image,), (image.cos(),))[1], slope, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.func.hessian(own)(image), torch.func.hessian(plain)(image), rtol=1e-4, atol=1e-4)


def test_a_compiler_sees_one_graph() -> None:
    torch._dynamo.reset()
    convolution = SoundConv3d(2, 3, 3, padding=1)
    compiled = torch.compile(convolution, backend="eager", fullgraph=True)
    image = torch.randn(1, 2, 5, 4, 3)
    torch.testing.assert_close(compiled(image), convolution(image))
