"""Local correlation and its gradient of differences within windows alone, accurate in float32.

A mean of squares less a squared mean loses, in float32, the variance of a nearly constant window. Here windows grow by
one axis at a time instead: the variance of a union of equal parts is the mean of their variances plus the variance of
their means. All means are held as differences from the voxel in the middle, so that large values cancel exactly, before
anything is squared.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gvsl.losses.correlation_terms import Moments, gradients, keep_terms

AXES = (4, 3, 2)


class CentredCorrelation(torch.autograd.Function):
    """Weighted mean of the squared correlation, with an explicit gradient."""

    @staticmethod
    def forward(
        ctx: Any, fixed: Tensor, warped: Tensor, window: int, eps: float, balance: float | None, weight: Tensor | None
    ) -> Tensor:
        return keep_terms(ctx, fixed, warped, centred_moments(fixed, warped, window), window, eps, balance, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        def towards(
            image: Tensor, mean: Tensor, other: Tensor, other_mean: Tensor, by_covariance: Tensor, by_variance: Tensor
        ) -> Tensor:
            pull = _Pull(by_covariance, by_variance, torch.addcmul(by_covariance * other_mean, by_variance, mean))
            for axis in AXES:
                pull = _gathered(pull, image, other, axis, ctx.window)
            return pull.towards_means.mul_(-gradient)

        return gradients(ctx, towards)


def centred_moments(fixed: Tensor, warped: Tensor, window: int) -> Moments:
    """Return the moments of two images in each window, (B, C, D, H, W) each; means are less the voxel's own value."""
    zeros = torch.zeros_like(fixed)
    moments = Moments(zeros, zeros, zeros, zeros, zeros, fixed.new_ones(1, 1, 1, 1, 1))
    for axis in AXES:
        moments = _widened(moments, fixed, warped, axis, window)
    return moments


def _widened(moments: Moments, fixed: Tensor, warped: Tensor, axis: int, window: int) -> Moments:
    """Return the moments of windows that reach over the neighbours along one more axis."""
    side = fixed.shape[axis]
    wider = [torch.zeros_like(fixed) for _ in range(5)]
    count = fixed.new_zeros([side if each == axis else 1 for each in range(5)])
    for here, there, length in neighbours(side, window):
        near = [part.narrow(axis, here, length) for part in (*wider, fixed, warped, count)]
        far = [part.narrow(axis, there, length) for part in (*moments[:5], fixed, warped)]
        one, other = far[5] - near[5] + far[0], far[6] - near[6] + far[1]
        near[0].add_(one)
        near[1].add_(other)
        near[2].add_(far[2]).addcmul_(one, one)
        near[3].add_(far[3]).addcmul_(other, other)
        near[4].add_(far[4]).addcmul_(one, other)
        near[7].add_(1)
    inverse = count.reciprocal_()
    fixed_mean, warped_mean, *squares = (part.mul_(inverse) for part in wider)
    return Moments(
        fixed_mean,
        warped_mean,
        squares[0].addcmul_(fixed_mean, fixed_mean, value=-1).clamp_(min=0),
        squares[1].addcmul_(warped_mean, warped_mean, value=-1).clamp_(min=0),
        squares[2].addcmul_(fixed_mean, warped_mean, value=-1),
        moments.inverse_count * inverse,
    )


class _Pull(NamedTuple):
    """Sums over the windows that hold a voxel."""

    by_covariance: Tensor
    by_variance: Tensor
    towards_means: Tensor
    """The derivatives, each times its window's mean less the voxel's value: the negative gradient."""


def _gathered(pull: _Pull, image: Tensor, other: Tensor, axis: int, window: int) -> _Pull:
    """Return the sums over the neighbours along one more axis."""
    wider = _Pull(*(torch.zeros_like(part) for part in pull))
    for here, there, length in neighbours(image.shape[axis], window):
        near = [part.narrow(axis, here, length) for part in (*wider, image, other)]
        far = [part.narrow(axis, there, length) for part in (*pull, image, other)]
        near[0].add_(far[0])
        near[1].add_(far[1])
        near[2].add_(far[2]).addcmul_(far[0], far[4] - near[4]).addcmul_(far[1], far[3] - near[3])
    return wider


def neighbours(side: int, window: int) -> Iterator[tuple[int, int, int]]:
    """Yield each offset within a window as two starts and the length of what overlaps along a side.

    >>> list(neighbours(5, 3))
    [(1, 0, 4), (0, 0, 5), (0, 1, 4)]
    """
    half = min(window // 2, side - 1)
    for offset in range(-half, half + 1):
        yield max(0, -offset), max(0, offset), side - abs(offset)
