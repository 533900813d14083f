"""Weighted mean of the squared correlation, and its derivatives by each window's covariance and variances."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Moments(NamedTuple):
    """Means, variances and covariance of two images in the window about each voxel."""

    fixed_mean: Tensor
    warped_mean: Tensor
    fixed_variance: Tensor
    warped_variance: Tensor
    covariance: Tensor
    inverse_count: Tensor
    """One over the number of voxels of each window that lie in the volume, (1, 1, D, H, W)."""


class CorrelationTerms(NamedTuple):
    """The mean squared correlation, and what each voxel of a window adds to its derivatives."""

    similarity: Tensor
    by_covariance: Tensor
    by_fixed: Tensor
    by_warped: Tensor


def correlation_terms(moments: Moments, eps: float, balance: float | None, weight: Tensor | None) -> CorrelationTerms:
    """Return the weighted mean of the squared correlation and its derivatives; the covariance is overwritten."""
    _, _, fixed_variance, warped_variance, covariance, inverse_count = moments
    denominator = torch.addcmul(torch.full_like(covariance, eps), fixed_variance, warped_variance)
    numerator = covariance.square()
    change: Tensor | None = None
    if balance is not None:
        change = fixed_variance - warped_variance
        denominator.addcmul_(change, change, value=balance)
        numerator.add_(eps)
    correlation = numerator.div_(denominator)
    if weight is None:
        weight = correlation.new_full((1, 1, 1, 1, 1), 1 / correlation.numel())
    similarity = (correlation * weight).sum()
    # d similarity / d covariance and / d variances at each window, distributed over the window's voxels.
    by_covariance = covariance.div_(denominator).mul_(2 * weight * inverse_count)
    by_product = correlation.div_(denominator).mul_(-2 * weight * inverse_count)
    if change is not None and balance is not None:
        change.mul_(2 * balance)
        by_fixed, by_warped = by_product * (warped_variance + change), by_product * (fixed_variance - change)
    else:
        by_fixed, by_warped = by_product * warped_variance, by_product * fixed_variance
    return CorrelationTerms(similarity, by_covariance, by_fixed, by_warped)


def keep_terms(
    ctx: Any,
    fixed: Tensor,
    warped: Tensor,
    moments: Moments,
    window: int,
    eps: float,
    balance: float | None,
    weight: Tensor | None,
) -> Tensor:
    """Return the weighted mean of the squared correlation, and keep what `gradients` needs: the end of a forward."""
    similarity, *derivatives = correlation_terms(moments, eps, balance, weight)
    ctx.window = window
    ctx.save_for_backward(fixed, warped, moments.fixed_mean, moments.warped_mean, *derivatives)
    return similarity


Towards = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""Returns an image's gradient from it and its mean, the other's, and the derivatives by covariance and variance."""


def gradients(ctx: Any, towards: Towards) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
    """Return the gradients of both images and of what `keep_terms` takes besides: the end of a backward."""
    fixed, warped, fixed_mean, warped_mean, by_covariance, by_fixed, by_warped = ctx.saved_tensors
    one, other = (fixed, fixed_mean), (warped, warped_mean)
    return (
        towards(*one, *other, by_covariance, by_fixed) if ctx.needs_input_grad[0] else None,
        towards(*other, *one, by_covariance, by_warped) if ctx.needs_input_grad[1] else None,
        *(None, None, None, None),
    )
