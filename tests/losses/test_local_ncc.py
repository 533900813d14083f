from functools import cache, partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from gvsl.augment import AppearanceSettings, SpatialSettings, change_appearance, draw_appearance, draw_spatial
from gvsl.geometry import inside, warp
from gvsl.losses import box_sum, local_ncc_loss
from gvsl.losses.local_ncc import EPS
from gvsl.phantom.cohort import subject

PAIRS = 60
"""Every combination of what is done to each second, third, fourth and fifth pair."""
SIDE = 32
SUBJECTS = 4


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def plain(fixed: NDArray[np.float64], warped: NDArray[np.float64], window: int, eps: float) -> NDArray[np.float64]:
    """The squared correlation at each voxel of two (D, H, W) images, window by window, each centred on its own mean."""
    half = window // 2
    fixed, warped = fixed / fixed.std(), warped / warped.std()
    result = np.empty(fixed.shape)
    for voxel in np.ndindex(fixed.shape):
        box = tuple(slice(max(0, place - half), place + half + 1) for place in voxel)
        one, other = fixed[box] - fixed[box].mean(), warped[box] - warped[box].mean()
        result[voxel] = np.mean(one * other) ** 2 / (np.mean(one**2) * np.mean(other**2) + eps)
    return result


def reference(
    fixed: Tensor, warped: Tensor, window: int, eps: float, mask: Tensor | None = None, balance: float | None = None
) -> Tensor:
    """The loss by PyTorch's own average pooling and autograd in float64."""

    def mean(values: Tensor) -> Tensor:
        for axis in range(3):
            size = [window if axis == other else 1 for other in range(3)]
            values = functional.avg_pool3d(values, size, 1, [side // 2 for side in size], count_include_pad=False)
        return values

    def standardised(image: Tensor) -> Tensor:
        centred = image.double() - image.double().mean(dim=(1, 2, 3, 4), keepdim=True)
        return centred / centred.square().mean(dim=(1, 2, 3, 4), keepdim=True).sqrt()

    fixed, warped = standardised(fixed), standardised(warped)
    fixed_mean, warped_mean = mean(fixed), mean(warped)
    fixed_variance, warped_variance = mean(fixed**2) - fixed_mean**2, mean(warped**2) - warped_mean**2
    squared = (mean(fixed * warped) - fixed_mean * warped_mean) ** 2
    if balance is None:
        squared = squared / (fixed_variance * warped_variance + eps)
    else:
        change = balance * (fixed_variance - warped_variance) ** 2
        squared = (squared + eps) / (fixed_variance * warped_variance + eps + change)
    return 1 - (squared.mean() if mask is None else squared[mask].mean())


@cache
def volume(index: int) -> Tensor:
    """A phantom in [0, 1] by the CT window."""
    image, _ = subject(0, index, (SIDE, SIDE, SIDE))
    return ((torch.from_numpy(image) + 1024) / 2048).clamp(0, 1)[None, None]


@cache
def augmented_pairs() -> list[tuple[Tensor, Tensor, Tensor]]:
    """Random pairs as training meets them, and worse: saturated, padded and with constant blocks; and their mask."""
    generator = torch.Generator().manual_seed(0)
    shape = (SIDE, SIDE, SIDE)
    pairs = []
    for number in range(PAIRS):
        fixed, moving = volume(number % SUBJECTS), volume((number + 1 + number // SUBJECTS % 3) % SUBJECTS)
        pair = warp(torch.cat([fixed, moving], dim=1), draw_spatial(1, shape, SpatialSettings(), generator))
        fixed, moving = pair[:, :1], pair[:, 1:]
        if number % 2:  # saturated bone, and air cut off
            fixed, moving = ((2.5 * image - 0.6).clamp(0, 1) for image in (fixed, moving))
        if number % 3 == 0:
            moving = change_appearance(moving, draw_appearance(1, shape, AppearanceSettings(), generator))
        if number % 4 == 0:  # padded volumes
            fixed[:, :, : number % 12], moving[..., SIDE - number % 16 :] = 0, 0
        if number % 5 == 0:  # a constant block, with almost nothing in it
            moving[:, :, 8:24, 8:24, 8:24] = 0.7 + 1e-4 * noise(1, 1, 16, 16, 16, seed=number).float()
        dvf = draw_spatial(1, shape, SpatialSettings(rotation=5, scale=0.05), generator)
        pairs.append((fixed.contiguous(), warp(moving, dvf), inside(dvf)))
    return pairs


def cosine(one: Tensor, other: Tensor) -> float:
    return float(functional.cosine_similarity(one.double().flatten(), other.double().flatten(), dim=0))


@pytest.mark.parametrize("shape", [(9, 9, 9), (9, 10, 12)])
@pytest.mark.parametrize("window", [3, 5, 9])
@pytest.mark.parametrize("eps", [EPS, 2e-11])
def test_value_is_the_plain_one(shape: tuple[int, int, int], window: int, eps: float) -> None:
    fixed, warped = noise(2, 1, *shape, seed=1), noise(2, 1, *shape, seed=2)
    warped[0, :, 2:, 3:] = fixed[0, :, 2:, 3:] ** 2  # well correlated, and
    fixed[1, :, :5], warped[1, :, :, :4] = 1.0, 0.0  # constant
    expected = 1 - np.mean([plain(f[0].numpy(), m[0].numpy(), window, eps) for f, m in zip(fixed, warped, strict=True)])
    for dtype in (torch.float64, torch.float32):
        found = local_ncc_loss(fixed.to(dtype), warped.to(dtype), window=window, eps=eps)
        assert found.dtype == dtype
        assert found.item() == pytest.approx(expected, abs=1e-5)
    assert reference(fixed, warped, window, eps).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("eps", [EPS, pytest.param(2e-11, marks=pytest.mark.slow)])
def test_value_and_gradient_hold_in_the_worst_of_many_augmented_pairs(eps: float) -> None:
    errors, cosines, flat = [], [], 0
    for number, (fixed, warped, seen) in enumerate(augmented_pairs()):
        mask = seen if number % 2 else None
        losses, gradients = [], []
        for loss in (local_ncc_loss, reference):
            images = fixed.clone().requires_grad_(), warped.clone().requires_grad_()
            value = loss(*images, window=9, eps=eps, mask=mask)
            losses.append(value.item())
            gradients.append(torch.autograd.grad(value, images))
        errors.append(abs(losses[0] - losses[1]))
        cosines += [cosine(*pair) for pair in zip(*gradients, strict=True)]
        flat += int((functional.max_pool3d(warped, 9, 1) == -functional.max_pool3d(-warped, 9, 1)).any())
    assert max(errors) < 1e-5
    assert min(cosines) > 0.9999
    assert flat > PAIRS / 10  # the pairs do hold constant windows


def test_a_large_value_elsewhere_disturbs_no_flat_window() -> None:
    """What running sums get wrong: their rounding errors travel along the line."""
    fixed, warped = 1e-3 * noise(1, 1, 9, 9, 40, seed=3).float(), 1e-3 * noise(1, 1, 9, 9, 40, seed=4).float()
    fixed[..., 0], warped[..., 0] = 100, 100
    images = fixed.requires_grad_(), warped.requires_grad_()
    found, expected = (
        torch.autograd.grad(loss(*images, window=9, eps=1e-20), images) for loss in (local_ncc_loss, reference)
    )
    for one, other in zip(found, expected, strict=True):
        assert cosine(one[..., 10:], other[..., 10:]) > 0.9999


@pytest.mark.parametrize(
    ("masked", "needed"),
    [
        (False, "fixed"),
        pytest.param(False, "warped", marks=pytest.mark.slow),
        (False, "both"),
        pytest.param(True, "fixed", marks=pytest.mark.slow),
        (True, "warped"),
        (True, "both"),
    ],
)
def test_gradient(needed: str, masked: bool) -> None:
    fixed = noise(2, 2, 3, 3, 4, seed=5).requires_grad_(needed != "warped")
    warped = noise(2, 2, 3, 3, 4, seed=6).requires_grad_(needed != "fixed")
    mask = noise(2, 1, 3, 3, 4, seed=7) > 0.4 if masked else None
    loss = partial(local_ncc_loss, window=3, eps=EPS, mask=mask)
    assert torch.autograd.gradcheck(loss, (fixed, warped))


def test_only_windows_of_the_mask_count() -> None:
    fixed, warped = noise(1, 1, 6, 7, 8, seed=8), noise(1, 1, 6, 7, 8, seed=9)
    mask = torch.zeros(1, 1, 6, 7, 8, dtype=torch.bool)
    mask[..., 2:5, 5:] = True
    squared = plain(fixed[0, 0].numpy(), warped[0, 0].numpy(), 3, EPS)
    expected = 1 - squared[mask[0, 0].numpy()].mean()
    assert local_ncc_loss(fixed, warped, window=3, mask=mask).item() == pytest.approx(expected, abs=1e-9)


def test_a_mask_that_leaves_nothing_gives_no_gradient() -> None:
    fixed, warped = noise(1, 1, 5, 5, 5, seed=8), noise(1, 1, 5, 5, 5, seed=9).requires_grad_()
    loss = local_ncc_loss(fixed, warped, mask=torch.zeros(1, 1, 5, 5, 5, dtype=torch.bool))
    loss.backward()
    assert loss == 1
    assert warped.grad is not None
    assert not warped.grad.any()


@pytest.mark.parametrize("masked", [False, True])
def test_a_batch_has_the_mean_of_its_pairs(masked: bool) -> None:
    fixed, warped = noise(3, 2, 5, 6, 7, seed=10), noise(3, 2, 5, 6, 7, seed=11)
    mask = noise(3, 1, 5, 6, 7, seed=12) > torch.tensor([0.1, 0.5, 0.9]).view(3, 1, 1, 1, 1) if masked else None
    alone = [
        local_ncc_loss(fixed[[i]], warped[[i]], window=3, mask=None if mask is None else mask[[i]]) for i in range(3)
    ]
    torch.testing.assert_close(local_ncc_loss(fixed, warped, window=3, mask=mask), torch.stack(alone).mean())


@settings(max_examples=15, deadline=None)
@given(scale=st.floats(0.5, 4), offset=st.floats(-3, 3), negative=st.booleans(), seed=st.integers(0, 99))
def test_contrast_and_brightness_are_left_out(scale: float, offset: float, negative: bool, seed: int) -> None:
    fixed, warped = noise(1, 1, 6, 7, 8, seed=seed), noise(1, 1, 6, 7, 8, seed=seed + 1000)
    changed = (-scale if negative else scale) * warped + offset
    expected = local_ncc_loss(fixed, warped, window=5)
    torch.testing.assert_close(local_ncc_loss(fixed, changed, window=5), expected, rtol=0, atol=1e-6)
    assert local_ncc_loss(fixed, -scale * fixed + offset, window=5, eps=1e-9) < 1e-6
    assert 0 <= expected <= 1


def test_constant_images_have_nothing_in_common_and_a_finite_gradient() -> None:
    fixed, warped = torch.zeros(1, 1, 12, 12, 12), torch.full((1, 1, 12, 12, 12), 0.3).requires_grad_()
    loss = local_ncc_loss(fixed, warped)
    loss.backward()
    assert loss.item() == pytest.approx(1)
    assert warped.grad is not None
    assert warped.grad.isfinite().all()


def test_autocast_costs_no_precision() -> None:
    fixed, warped = noise(1, 1, 12, 12, 12, seed=1).float(), noise(1, 1, 12, 12, 12, seed=2).float()
    expected = local_ncc_loss(fixed, warped)
    with torch.autocast("cpu", torch.bfloat16):
        found = local_ncc_loss(fixed, warped)
    assert found.dtype == torch.float32
    assert found == expected
    assert local_ncc_loss(fixed.bfloat16(), warped.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("window", [1, 3, 5, 7, 9, 11, 13])
def test_box_sums_are_those_of_a_convolution(window: int) -> None:
    values = noise(2, 1, 5, 9, 14)
    expected = functional.conv3d(values, torch.ones(1, 1, *[window] * 3, dtype=torch.float64), padding=window // 2)
    torch.testing.assert_close(box_sum(values, window), expected)


def test_mistakes_are_refused() -> None:
    image = torch.zeros(1, 1, 4, 4, 4)
    with pytest.raises(ValueError, match="differ in shape"):
        local_ncc_loss(image, image[..., :3])
    for window in (0, 4, -1):
        with pytest.raises(ValueError, match=f"window {window} is not a positive odd number"):
            local_ncc_loss(image, image, window=window)


@pytest.mark.parametrize("spread", [0.05, 0.01, 1e-4])
def test_a_faint_image_matches_itself_as_well_as_a_strong_one(spread: float) -> None:
    """An absolute epsilon would not let it: equal images of little contrast would cost nearly 1."""
    image = volume(0).double()
    faint = 0.4 + spread * (image - image.mean()) / image.std()
    torch.testing.assert_close(local_ncc_loss(faint, faint), local_ncc_loss(image, image), rtol=0, atol=1e-6)


def flat_with_a_ball() -> Tensor:
    """A faint texture around a bright ball: windows far below the floor, and far above."""
    points = torch.stack(torch.meshgrid(*[torch.arange(16.0)] * 3, indexing="ij"))
    ball = ((points - 8).square().sum(0) < 16).double()
    return (ball + 1e-3 * noise(16, 16, 16))[None, None]


@pytest.mark.parametrize("balance", [0.05, 1.0])
def test_balanced_loss_and_its_gradients_are_those_of_the_formula(balance: float) -> None:
    fixed = (noise(2, 1, 10, 9, 8) + 0.2 * noise(2, 1, 10, 9, 8, seed=1)).requires_grad_()
    warped = noise(2, 1, 10, 9, 8, seed=2).requires_grad_()
    loss = local_ncc_loss(fixed, warped, window=5, eps=0.05, balance=balance)
    expected = reference(fixed, warped, 5, 0.05, balance=balance)
    torch.testing.assert_close(loss, expected)
    for found, wanted in zip(
        torch.autograd.grad(loss, (fixed, warped)), torch.autograd.grad(expected, (fixed, warped)), strict=True
    ):
        torch.testing.assert_close(found, wanted)


def test_an_image_and_itself_are_a_maximum_when_balanced_flat_windows_included() -> None:
    image = flat_with_a_ball()
    pulls = {}
    for balance in (None, 0.5):
        moved = image.clone().requires_grad_()
        loss = local_ncc_loss(image, moved, window=5, eps=1e-4, balance=balance)
        pulls[balance] = float(torch.autograd.grad(loss * image.numel(), moved)[0].abs().max())
    assert float(local_ncc_loss(image, image, window=5, eps=1e-4, balance=0.5)) == pytest.approx(0, abs=1e-9)
    assert pulls[0.5] < 1e-9
    assert pulls[None] > 1e-3


def test_a_structure_on_nothing_does_not_match_when_balanced() -> None:
    image = flat_with_a_ball()
    nothing = 1e-3 * noise(1, 1, 16, 16, 16, seed=1)
    mask = (image > 0.5).expand(1, 1, 16, 16, 16)
    together = torch.cat([image, nothing], dim=4)
    missing = torch.cat([nothing, image], dim=4)  # the same contrast overall
    where = torch.cat([mask, torch.zeros_like(mask)], dim=4)
    assert float(local_ncc_loss(together, missing, window=5, eps=1e-4, mask=where, balance=0.5)) > 0.9


def test_of_several_channels_the_mean_counts_each_with_its_own_contrast() -> None:
    generator = torch.Generator().manual_seed(5)
    fixed, warped = (torch.rand(2, 2, 9, 10, 11, generator=generator) for _ in range(2))
    apart = [local_ncc_loss(fixed[:, [each]], warped[:, [each]], window=5) for each in range(2)]
    scaled = fixed * torch.tensor([1.0, 200.0]).view(1, 2, 1, 1, 1)
    torch.testing.assert_close(local_ncc_loss(scaled, warped, window=5), torch.stack(apart).mean())
    mask = torch.zeros(1, 1, 9, 10, 11)
    mask[..., 3:6] = 1
    apart = [local_ncc_loss(fixed[:, [each]], warped[:, [each]], window=5, mask=mask) for each in range(2)]
    torch.testing.assert_close(local_ncc_loss(scaled, warped, window=5, mask=mask), torch.stack(apart).mean())
