"""Local normalised cross-correlation (NCC, Eq. 1), with an accurate gradient where windows are nearly constant."""

import os
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gvsl.losses.centred_ncc import CentredCorrelation, centred_moments
from gvsl.losses.correlation_terms import Moments, gradients, keep_terms

WINDOW = 9
"""Side of the window in voxels. The paper does not state it; 9 is the published code's and the field's usual value."""
EPS = 1e-3
"""Added to the product of the two variances, each relative to its image's: a window whose standard deviation is a
fifth of the image's or less, such as noise, counts little."""
FUSED = "GVSL_FUSED_NCC"
"""Environment variable; 0 keeps Triton out, such as where it finds no C compiler."""


def local_ncc_loss(
    fixed: Tensor,
    warped: Tensor,
    *,
    window: int = WINDOW,
    eps: float = EPS,
    mask: Tensor | None = None,
    balance: float | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    r"""Return one minus the mean squared local correlation of two images (Eq. 1).

    At each voxel p, over the part of the window about p that lies in the volume,
    ncc(p) = cov(fixed, warped)^2 / (var(fixed) var(warped) + eps), in [0, 1]. Both images are first divided by their
    standard deviation, to which eps is thus relative: adding a constant to an image or scaling it leaves the loss
    unchanged, flat windows included. In nearly constant windows the variances are differences of almost equal numbers,
    and the gradient is as large as they are small. On a CPU, sums are therefore direct rather than running, and in
    float64; elsewhere, where that is up to 32 times as slow or missing, in float32 of differences within the window.
    Autocast changes neither. Of several channels the mean counts, each compared with its own counterpart.

    Args:
        fixed: (B, C, D, H, W), any intensities.
        warped: (B, C, D, H, W), the image warped onto the fixed one's grid.
        window: odd side of the window in voxels.
        eps: added to the product of the relative variances; larger values give flat windows less weight.
        mask: (B or 1, 1, D, H, W), the voxels whose windows count, such as those inside the moving image's field
            of view; by default all. Each pair of a batch has the same weight, however many count.
        balance: if given, ncc(p) = (cov^2 + eps) / (var var + eps + balance (var - var)^2) instead. In Eq. 1 a field
            gains by raising the contrast of flat windows, so that even an image and itself are moved apart; here equal
            windows are a maximum, flat ones too, and `balance` is how far a difference in contrast counts.
        dtype: of the arithmetic, float32 or float64; by default that of the device, or float64 for float64 images. In
            float32 the value is within 1e-6 of float64's, and each gradient, relative to its norm, within 1e-5 for the
            default eps and 1e-3 for one of 1e-11.

    Returns:
        A scalar in [0, 1]: 0 for images that are equal up to contrast in every window.

    Raises:
        ValueError: the shapes differ, the window is not a positive odd number, or there is no such arithmetic.

    >>> image = torch.rand(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> bool(local_ncc_loss(image, 0.5 - 2 * image, eps=1e-9) < 1e-6)
    True
    """
    if fixed.shape != warped.shape:
        raise ValueError(f"fixed {tuple(fixed.shape)} and warped {tuple(warped.shape)} differ in shape")
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window {window} is not a positive odd number of voxels")
    if dtype not in (None, torch.float32, torch.float64):
        raise ValueError(f"dtype {dtype} is neither torch.float32 nor torch.float64")
    dtype = dtype or torch.promote_types(torch.promote_types(fixed.dtype, warped.dtype), _arithmetic(fixed.device))
    weight = None
    if mask is not None:
        counted = mask.expand(fixed.shape).sum(dim=(1, 2, 3, 4), keepdim=True)
        weight = mask.to(dtype) / (counted.clamp(min=1) * len(fixed))
    with torch.autocast(fixed.device.type, enabled=False):
        similarity: Tensor = _correlation(fixed, dtype).apply(
            _standardised(fixed.to(dtype)), _standardised(warped.to(dtype)), window, eps, balance, weight
        )
    return (1 - similarity).to(torch.promote_types(warped.dtype, torch.float32))


@torch.no_grad()
def local_similarity(fixed: Tensor, warped: Tensor, *, window: int = WINDOW, eps: float = EPS) -> Tensor:
    """Return the squared local correlation of two images at each voxel, the map whose mean Eq. 1 maximises.

    Args:
        fixed: (B, C, D, H, W), any intensities.
        warped: (B, C, D, H, W), the image warped onto the fixed one's grid.
        window: odd side of the window in voxels.
        eps: added to the product of the relative variances; flat windows are thus similar to nothing.

    Returns:
        (B, 1, D, H, W), in [0, 1], the mean over channels.

    >>> image = torch.rand(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> bool((local_similarity(image, 1 - image, eps=1e-9) > 0.999).all())
    True
    """
    dtype = _arithmetic(fixed.device)
    images = _standardised(fixed.to(dtype)), _standardised(warped.to(dtype))
    found = _moments(*images, window) if dtype == torch.float64 else centred_moments(*images, window)
    denominator = torch.addcmul(torch.full_like(found.covariance, eps), found.fixed_variance, found.warped_variance)
    return (found.covariance.square() / denominator).clamp_(max=1).mean(dim=1, keepdim=True).float()


def _arithmetic(device: torch.device) -> torch.dtype:
    """Return the type that the correlation is computed in by default."""
    return torch.float64 if device.type == "cpu" else torch.float32


def _correlation(images: Tensor, dtype: torch.dtype) -> Any:
    """Return the function that computes the correlation: in float64, or in float32, fused where Triton can."""
    if dtype == torch.float64:
        return _MeanSquaredCorrelation
    if images.device.type != "cuda" or os.environ.get(FUSED) == "0" or find_spec("triton") is None:
        return CentredCorrelation
    from gvsl.losses.ncc_kernel import MOST_VOXELS, FusedCorrelation

    return FusedCorrelation if images.numel() <= MOST_VOXELS else CentredCorrelation


class _MeanSquaredCorrelation(torch.autograd.Function):
    """Weighted mean of the squared correlation, with an explicit gradient of nine box sums instead of thirty."""

    @staticmethod
    def forward(
        ctx: Any, fixed: Tensor, warped: Tensor, window: int, eps: float, balance: float | None, weight: Tensor | None
    ) -> Tensor:
        # Centring has no effect in exact arithmetic, and keeps the squares small in floating point.
        fixed = fixed - fixed.mean(dim=(2, 3, 4), keepdim=True)
        warped = warped - warped.mean(dim=(2, 3, 4), keepdim=True)
        return keep_terms(ctx, fixed, warped, _moments(fixed, warped, window), window, eps, balance, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        def towards(
            image: Tensor, mean: Tensor, other: Tensor, other_mean: Tensor, by_covariance: Tensor, by_variance: Tensor
        ) -> Tensor:
            constant = box_sum(torch.addcmul(by_covariance * other_mean, by_variance, mean), ctx.window)
            slope = other * box_sum(by_covariance, ctx.window)
            slope = torch.addcmul(slope, image, box_sum(by_variance, ctx.window))
            return slope.sub_(constant).mul_(gradient)

        return gradients(ctx, towards)


def _moments(fixed: Tensor, warped: Tensor, window: int) -> Moments:
    inverse_count = _inverse_count(fixed, window)
    fixed_mean = box_sum(fixed, window).mul_(inverse_count)
    warped_mean = box_sum(warped, window).mul_(inverse_count)
    return Moments(
        fixed_mean,
        warped_mean,
        _covariance(fixed, fixed, fixed_mean, fixed_mean, window, inverse_count).clamp_(min=0),
        _covariance(warped, warped, warped_mean, warped_mean, window, inverse_count).clamp_(min=0),
        _covariance(fixed, warped, fixed_mean, warped_mean, window, inverse_count),
        inverse_count,
    )


def _standardised(images: Tensor) -> Tensor:
    """Return images of zero mean and unit standard deviation, each channel over its voxels; constant ones become 0."""
    centred = images - images.mean(dim=(2, 3, 4), keepdim=True)
    if images.dtype != torch.float64:  # the first mean is rounded to the size of the offset, the second isn't
        centred = centred - centred.mean(dim=(2, 3, 4), keepdim=True)
    variance = centred.square().mean(dim=(2, 3, 4), keepdim=True)
    return centred * torch.where(variance > 0, variance, torch.ones_like(variance)).rsqrt()


def box_sum(values: Tensor, window: int) -> Tensor:
    """Return the sums over cubes of `window` voxels a side, with zeros beyond the border.

    The sums are built by doubling: of 1, 2, 4, 8 and 9 terms for a window of 9. Each is a sum of its own terms only, so
    that, unlike in running sums, a large value elsewhere leaves no rounding error.

    Args:
        values: (B, C, D, H, W).
        window: odd side in voxels.

    Returns:
        (B, C, D, H, W).

    >>> box_sum(torch.ones(1, 1, 3, 1, 1), 3).flatten()
    tensor([2., 3., 2.])
    """
    for axis in (4, 3, 2):
        values = _line_sum(values, axis, window)
    return values


def _line_sum(values: Tensor, axis: int, window: int) -> Tensor:
    """Return the sums over `window` neighbours along one axis."""
    side, half = values.shape[axis], window // 2
    padded_shape = list(values.shape)
    padded_shape[axis] = side + 2 * half
    padded = values.new_zeros(padded_shape)
    padded.narrow(axis, half, side).copy_(values)
    total: Tensor | None = None
    run, length, start = padded, 1, 0
    remaining = window
    while True:  # `run` holds sums of `length` neighbours; the window's binary digits select those to add up
        if remaining & 1:
            part = run.narrow(axis, start, side)
            total = part if total is None else total + part
            start += length
        remaining >>= 1
        if not remaining:
            return total if total is not None else values
        size = run.shape[axis] - length
        run = run.narrow(axis, 0, size) + run.narrow(axis, length, size)
        length *= 2


def _covariance(
    first: Tensor, second: Tensor, first_mean: Tensor, second_mean: Tensor, window: int, inverse_count: Tensor
) -> Tensor:
    """Return the covariance of two images in each window."""
    return torch.addcmul(box_sum(first * second, window).mul_(inverse_count), first_mean, second_mean, value=-1)


def _inverse_count(like: Tensor, window: int) -> Tensor:
    """Return one over the number of voxels of each window that lie in the volume, (1, 1, D, H, W)."""
    count = like.new_ones(1, 1, 1, 1, 1)
    for axis in (2, 3, 4):
        shape = [1, 1, 1, 1, 1]
        shape[axis] = like.shape[axis]
        count = count * _line_sum(like.new_ones(shape), axis, window)
    return count.reciprocal_()
