"""Weighted mean of the squared correlation, and its derivatives by each window's covariance and variances."""

from typing import NamedTuple

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
