"""The float32 arithmetic of the local correlation, as other devices than a CPU use it, against float64."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gvsl.losses import local_ncc_loss
from gvsl.losses.centred_ncc import CentredCorrelation, centred_moments
from gvsl.losses.local_ncc import FUSED

SHAPE = (10, 9, 8)
VALUE_TOLERANCE = 1e-6
GRADIENT_TOLERANCE = {1e-3: 1e-5, 1e-11: 1e-3}
"""What the loss's docstring promises for an eps: of the gradient, relative to its norm."""


def noise(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def windows(values: Tensor, side: int) -> Tensor:
    """Each voxel's window along a last axis, with zeros beyond the border."""
    padded = functional.pad(values, [side // 2] * 6)
    return padded.unfold(2, side, 1).unfold(3, side, 1).unfold(4, side, 1).flatten(5)


def reference(
    fixed: Tensor, warped: Tensor, window: int, eps: float, mask: Tensor | None, balance: float | None
) -> Tensor:
    """The loss window by window, each centred on its own mean, by autograd in float64."""
    inside = windows(torch.ones_like(fixed), window)
    count = inside.sum(-1, keepdim=True)
    centred = []
    for image in (fixed, warped):
        spread = image.var((2, 3, 4), correction=0, keepdim=True).sqrt()
        image = (image - image.mean((2, 3, 4), keepdim=True)) / spread
        held = windows(image, window)
        centred.append((held - held.sum(-1, keepdim=True) / count) * inside)
    one, other = centred
    covariance = (one * other).sum(-1) / count[..., 0]
    first, second = one.square().sum(-1) / count[..., 0], other.square().sum(-1) / count[..., 0]
    if balance is None:
        squared = covariance**2 / (first * second + eps)
    else:
        squared = (covariance**2 + eps) / (first * second + eps + balance * (first - second) ** 2)
    if mask is None:
        return 1 - squared.mean()
    within = (squared * mask).sum((1, 2, 3, 4)) / mask.expand(squared.shape).sum((1, 2, 3, 4))
    return 1 - within.mean()


def pairs(kind: str) -> tuple[Tensor, Tensor]:
    """Two images each that hold float32's values exactly."""
    fixed, warped = noise(1, 2, 2, *SHAPE), noise(2, 2, 2, *SHAPE)
    warped = 0.5 * fixed + 0.5 * warped
    if kind == "flat":  # a far brighter half, and windows whose contrast is a thousandth of the image's
        fixed, warped = 1e-3 * fixed, 1e-3 * warped
        fixed[..., :4], warped[..., :4] = fixed[..., :4] + 1, warped[..., :4] + 3
        warped[:, :, 4:, 3:, 3:] = 1e-3  # and nothing at all
    elif kind == "offset":
        fixed, warped = fixed + 500, 100 * warped - 30_000
    return fixed.float().double(), warped.float().double()


@pytest.mark.parametrize("kind", ["noise", "flat", "offset"])
@pytest.mark.parametrize(
    ("masked", "balance", "eps"), [(False, None, 1e-3), (False, 0.5, 1e-3), (True, None, 1e-11), (True, 0.5, 1e-11)]
)
def test_float32_has_the_value_and_gradient_of_float64_and_of_the_formula(
    kind: str, masked: bool, balance: float | None, eps: float
) -> None:
    images = pairs(kind)
    mask = noise(3, 2, 1, *SHAPE) > torch.tensor([0.3, 0.8]).view(2, 1, 1, 1, 1) if masked else None
    values: list[float] = []
    gradients: list[tuple[Tensor, ...]] = []
    for dtype in (torch.float32, torch.float64, None):
        fixed, warped = (image.clone().requires_grad_() for image in images)
        if dtype is None:
            value = reference(fixed, warped, 5, eps, mask, balance)
        else:
            given = (fixed.float(), warped.float())
            value = local_ncc_loss(*given, window=5, eps=eps, mask=mask, balance=balance, dtype=dtype)
        values.append(value.item())
        gradients.append(torch.autograd.grad(value, (fixed, warped)))
    for other, gradient in zip(values[1:], gradients[1:], strict=True):
        assert abs(values[0] - other) < VALUE_TOLERANCE
        for found, expected in zip(gradients[0], gradient, strict=True):
            assert (found - expected).norm() < GRADIENT_TOLERANCE[eps] * expected.norm()


def test_a_nearly_flat_window_beside_a_bright_one_keeps_its_variance() -> None:
    """Where a mean of squares less a squared mean would lose it: 1e-6 of 9 is all that float32 resolves."""
    fixed = (3 + 1e-4 * noise(1, 1, 1, *SHAPE)).float()
    fixed[..., 0] = -100
    moments = centred_moments(fixed, fixed, 5)
    expected = windows(fixed.double(), 5)[:, :, 2:-2, 2:-2, 3:-2].var(-1, correction=0)
    for found in (moments.fixed_variance, moments.warped_variance, moments.covariance):
        torch.testing.assert_close(found[:, :, 2:-2, 2:-2, 3:-2].double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("needed", [0, 1])
def test_centred_gradient_in_float64_is_that_of_finite_differences(needed: int) -> None:
    """The formula itself, free of rounding: windows larger than the volume, and one image's gradient alone."""
    images = [noise(each, 1, 1, 3, 2, 3).requires_grad_(each == needed) for each in range(2)]
    weight = noise(4, 1, 1, 3, 2, 3)
    for balance in (None, 0.5):
        assert torch.autograd.gradcheck(
            lambda *pair: CentredCorrelation.apply(*pair, 5, 1e-3, balance, weight),  # noqa: B023
            images,
        )


def test_constant_images_have_nothing_in_common_and_a_finite_gradient() -> None:
    fixed, warped = torch.full((1, 1, *SHAPE), 1e4), torch.full((1, 1, *SHAPE), 0.3).requires_grad_()
    loss = local_ncc_loss(fixed, warped, dtype=torch.float32)
    loss.backward()
    assert loss.item() == pytest.approx(1)
    assert warped.grad is not None
    assert not warped.grad.any()


def test_other_types_are_refused() -> None:
    image = torch.zeros(1, 1, 4, 4, 4)
    with pytest.raises(ValueError, match=r"torch\.bfloat16"):
        local_ncc_loss(image, image, dtype=torch.bfloat16)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none")
@pytest.mark.parametrize("kind", ["noise", "flat", "offset"])
@pytest.mark.parametrize("fused", ["0", "1"])
def test_a_gpu_has_the_value_and_gradient_of_the_cpu(kind: str, fused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FUSED, fused)
    values: list[float] = []
    gradients: list[list[Tensor]] = []
    for device in ("cuda", "cpu"):
        images = [image.float().to(device).requires_grad_() for image in pairs(kind)]
        value = local_ncc_loss(images[0], images[1], balance=0.5)
        values.append(value.item())
        gradients.append([part.cpu() for part in torch.autograd.grad(value, images)])
    assert abs(values[0] - values[1]) < VALUE_TOLERANCE
    for found, expected in zip(*gradients, strict=True):
        assert (found - expected).norm() < GRADIENT_TOLERANCE[1e-3] * expected.norm()
