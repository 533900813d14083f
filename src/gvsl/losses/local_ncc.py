"""Local normalised cross-correlation (Eq. 1), built to have the right gradient where windows are nearly constant."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

WINDOW = 9
"""Side of the window in voxels. The paper leaves it open; 9 is its published code's and the field's usual value."""
FLOOR = 2e-11
"""Least product of the two variances, the published code's 1e-5 on the product of two window sums of 9^3 voxels."""


def local_ncc_loss(
    fixed: Tensor, moved: Tensor, *, window: int = WINDOW, floor: float = FLOOR, mask: Tensor | None = None
) -> Tensor:
    r"""One minus the mean squared local correlation of two images (Eq. 1).

    At each voxel p, over the part of the window about p that lies in the volume,
    ncc(p) = cov(fixed, moved)^2 / (var(fixed) var(moved) + floor), in [0, 1]. Adding a constant to an image or
    scaling it leaves the loss as it is. In nearly constant windows the variances are differences of almost equal
    numbers and the gradient is as large as they are small, so box sums are direct, not running, and in float64 where
    the device has it, under any autocast.

    Args:
        fixed: (B, C, D, H, W), intensities about [0, 1].
        moved: (B, C, D, H, W), the image that was warped onto the fixed one's grid.
        window: odd side of the window in voxels.
        floor: added to the product of the variances; larger values make flat windows count less.
        mask: (B or 1, 1, D, H, W), the voxels whose windows count, such as those inside the moving image's field
            of view; all if it is not given. Each pair of a batch weighs the same, however many count.

    Returns:
        a scalar in [0, 1]: 0 for images that are the same up to contrast in every window.

    Raises:
        ValueError: the shapes differ, or the window is not a positive odd number.
    """
    if fixed.shape != moved.shape:
        raise ValueError(f"fixed {tuple(fixed.shape)} and moved {tuple(moved.shape)} differ in shape")
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window {window} is not a positive odd number of voxels")
    least = torch.float32 if fixed.device.type == "mps" else torch.float64
    dtype = torch.promote_types(torch.promote_types(fixed.dtype, moved.dtype), least)
    weight = None
    if mask is not None:
        counted = mask.expand(fixed.shape).sum(dim=(1, 2, 3, 4), keepdim=True)
        weight = mask.to(dtype) / (counted.clamp(min=1) * len(fixed))
    with torch.autocast(fixed.device.type, enabled=False):
        similarity: Tensor = _MeanSquaredCorrelation.apply(fixed.to(dtype), moved.to(dtype), window, floor, weight)
    return (1 - similarity).to(torch.promote_types(moved.dtype, torch.float32))


class LocalNCCLoss(nn.Module):
    """`local_ncc_loss` as a module."""

    def __init__(self, window: int = WINDOW, floor: float = FLOOR) -> None:
        super().__init__()
        self.window = window
        self.floor = floor

    def forward(self, fixed: Tensor, moved: Tensor, mask: Tensor | None = None) -> Tensor:
        """See `local_ncc_loss`."""
        return local_ncc_loss(fixed, moved, window=self.window, floor=self.floor, mask=mask)


class _MeanSquaredCorrelation(torch.autograd.Function):
    """The weighted mean of the squared correlation, with its gradient written out: nine box sums, not thirty."""

    @staticmethod
    def forward(ctx: Any, fixed: Tensor, moved: Tensor, window: int, floor: float, weight: Tensor | None) -> Tensor:
        # Centring changes nothing in exact arithmetic, and keeps the squares small in floating point.
        fixed = fixed - fixed.mean(dim=(2, 3, 4), keepdim=True)
        moved = moved - moved.mean(dim=(2, 3, 4), keepdim=True)
        inverse_count = _inverse_count(fixed, window)
        fixed_mean = box_sum(fixed, window).mul_(inverse_count)
        moved_mean = box_sum(moved, window).mul_(inverse_count)
        fixed_variance = _covariance(fixed, fixed, fixed_mean, fixed_mean, window, inverse_count).clamp_(min=0)
        moved_variance = _covariance(moved, moved, moved_mean, moved_mean, window, inverse_count).clamp_(min=0)
        covariance = _covariance(fixed, moved, fixed_mean, moved_mean, window, inverse_count)
        denominator = torch.addcmul(torch.full_like(covariance, floor), fixed_variance, moved_variance)
        correlation = covariance.square().div_(denominator)
        if weight is None:
            weight = correlation.new_full((1, 1, 1, 1, 1), 1 / correlation.numel())
        similarity = (correlation * weight).sum()
        # d similarity / d covariance and / d variance at each window, shared out over the window's voxels.
        by_covariance = covariance.div_(denominator).mul_(2 * weight * inverse_count)
        by_product = correlation.div_(denominator).mul_(-2 * weight * inverse_count)
        ctx.window = window
        ctx.save_for_backward(
            fixed, moved, fixed_mean, moved_mean, fixed_variance, moved_variance, by_covariance, by_product
        )
        return similarity

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        fixed, moved, fixed_mean, moved_mean, fixed_variance, moved_variance, by_covariance, by_product = (
            ctx.saved_tensors
        )
        covariance_sum = box_sum(by_covariance, ctx.window)

        def towards(image: Tensor, mean: Tensor, other: Tensor, other_mean: Tensor, other_variance: Tensor) -> Tensor:
            by_variance = by_product * other_variance
            constant = box_sum(torch.addcmul(by_covariance * other_mean, by_variance, mean), ctx.window)
            slope = torch.addcmul(other * covariance_sum, image, box_sum(by_variance, ctx.window))
            return slope.sub_(constant).mul_(gradient)

        return (
            towards(fixed, fixed_mean, moved, moved_mean, moved_variance) if ctx.needs_input_grad[0] else None,
            towards(moved, moved_mean, fixed, fixed_mean, fixed_variance) if ctx.needs_input_grad[1] else None,
            None,
            None,
            None,
        )


def box_sum(values: Tensor, window: int) -> Tensor:
    """Sums over cubes of `window` voxels a side, zero beyond the border, by doubling: 1, 2, 4, 8, 9 terms for 9.

    Every result is a sum of its own terms alone, so that, unlike in running sums, a large value elsewhere leaves
    no rounding error behind.

    Args:
        values: (B, C, D, H, W).
        window: odd side in voxels.

    Returns:
        (B, C, D, H, W).
    """
    for axis in (4, 3, 2):
        values = _line_sum(values, axis, window)
    return values


def _line_sum(values: Tensor, axis: int, window: int) -> Tensor:
    """Sums over `window` neighbours along one axis."""
    side, half = values.shape[axis], window // 2
    padded_shape = list(values.shape)
    padded_shape[axis] = side + 2 * half
    padded = values.new_zeros(padded_shape)
    padded.narrow(axis, half, side).copy_(values)
    total: Tensor | None = None
    run, length, start = padded, 1, 0
    remaining = window
    while True:  # run holds the sums of `length` neighbours; those the window's binary digits name are added up
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
    """The covariance of two images in each window."""
    return torch.addcmul(box_sum(first * second, window).mul_(inverse_count), first_mean, second_mean, value=-1)


def _inverse_count(like: Tensor, window: int) -> Tensor:
    """One over the number of voxels of each window that lie in the volume: (1, 1, D, H, W)."""
    count = like.new_ones(1, 1, 1, 1, 1)
    for axis in (2, 3, 4):
        shape = [1, 1, 1, 1, 1]
        shape[axis] = like.shape[axis]
        count = count * _line_sum(like.new_ones(shape), axis, window)
    return count.reciprocal_()
