"""The centred correlation as Triton kernels: one for each axis, the last of which also makes the derivatives.

The arithmetic is that of `gvsl.losses.centred_ncc`, whose plain tensors it is checked against. A program computes BLOCK
voxels of the flattened volumes, and reads their neighbours along one axis, which lie `stride` apart.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 512
"""Voxels of a program."""
MOST_VOXELS = 2**31 - BLOCK
"""Voxels of a batch that the kernels' 32-bit offsets reach."""


class FusedCorrelation(torch.autograd.Function):
    """Weighted mean of the squared correlation; takes what `gvsl.losses.centred_ncc.CentredCorrelation` takes."""

    @staticmethod
    def forward(
        ctx: Any, fixed: Tensor, warped: Tensor, window: int, eps: float, balance: float | None, weight: Tensor | None
    ) -> Tensor:
        fixed, warped = fixed.contiguous(), warped.contiguous()
        weight = None if weight is None else weight.contiguous()
        channels, *shape = fixed.shape[1:]
        programs = (triton.cdiv(fixed.numel(), BLOCK),)
        sums = fixed.new_empty(programs)
        parts = [fixed] * 5  # not read along the first axis
        for number, (side, stride) in enumerate(_lines(shape)):
            wider = [torch.empty_like(fixed) for _ in range(5)]
            _widen[programs](
                *(fixed, warped, *parts, *wider, sums, fixed if weight is None else weight),
                *(fixed.numel(), side, stride, *shape, channels),
                0 if weight is None or len(weight) == 1 else shape[0] * shape[1] * shape[2],
                *(1 / fixed.numel(), eps, balance or 0.0),
                HALF=min(window // 2, side - 1),
                WINDOW_HALF=window // 2,
                FIRST=number == 0,
                LAST=number == 2,
                WEIGHTED=weight is not None,
                BALANCED=balance is not None,
                BLOCK=BLOCK,
            )
            parts = wider
        ctx.window = window
        ctx.save_for_backward(fixed, warped, *parts)
        return sums.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        fixed, warped, towards_fixed, towards_warped, by_fixed, by_warped, by_covariance = ctx.saved_tensors

        def towards(image: Tensor, other: Tensor, by_variance: Tensor, means: Tensor) -> Tensor:
            sums = [by_covariance, by_variance, means]
            for number, (side, stride) in enumerate(_lines(list(image.shape[2:]))):
                wider = [torch.empty_like(image) for _ in range(3)]
                _gather[(triton.cdiv(image.numel(), BLOCK),)](
                    *(image, other, *sums, *wider, gradient, image.numel(), side, stride),
                    HALF=min(ctx.window // 2, side - 1),
                    LAST=number == 2,
                    BLOCK=BLOCK,
                )
                sums = wider
            return sums[2]

        return (
            towards(fixed, warped, by_fixed, towards_fixed) if ctx.needs_input_grad[0] else None,
            towards(warped, fixed, by_warped, towards_warped) if ctx.needs_input_grad[1] else None,
            None,
            None,
            None,
            None,
        )


def _lines(shape: list[int]) -> list[tuple[int, int]]:
    """Return the side of each axis, last first, and how far apart neighbours along it lie."""
    depth, height, width = shape
    return [(width, 1), (height, width), (depth, height * width)]


@triton.jit
def _count(place, side, HALF: tl.constexpr):
    """Return how many of the voxels about a place along a side lie in the volume."""
    return tl.minimum(place, HALF) + tl.minimum(side - 1 - place, HALF) + 1


@triton.jit
def _widen(
    fixed, warped,
    fixed_mean, warped_mean, fixed_variance, warped_variance, covariance,
    first_out, second_out, third_out, fourth_out, fifth_out,
    sums, weight,
    size, side, stride, depth, height, width, channels, weight_stride, uniform_weight, eps, balance,
    HALF: tl.constexpr, WINDOW_HALF: tl.constexpr, FIRST: tl.constexpr, LAST: tl.constexpr,
    WEIGHTED: tl.constexpr, BALANCED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Let windows reach over the neighbours along one more axis; write their moments, or at last the derivatives."""
    voxel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    exists = voxel < size
    place = (voxel // stride) % side
    own_fixed, own_warped = tl.load(fixed + voxel, exists, 0.0), tl.load(warped + voxel, exists, 0.0)
    one_mean = tl.zeros((BLOCK,), tl.float32)
    other_mean, one_square, other_square, product = one_mean, one_mean, one_mean, one_mean
    for step in tl.static_range(2 * HALF + 1):
        there = place + (step - HALF)
        held = exists & (there >= 0) & (there < side)
        near = voxel + (step - HALF) * stride
        one = tl.where(held, tl.load(fixed + near, held, 0.0) - own_fixed, 0.0)
        other = tl.where(held, tl.load(warped + near, held, 0.0) - own_warped, 0.0)
        if not FIRST:
            one += tl.load(fixed_mean + near, held, 0.0)
            other += tl.load(warped_mean + near, held, 0.0)
            one_square += tl.load(fixed_variance + near, held, 0.0)
            other_square += tl.load(warped_variance + near, held, 0.0)
            product += tl.load(covariance + near, held, 0.0)
        one_mean += one
        other_mean += other
        one_square += one * one
        other_square += other * other
        product += one * other
    inverse = 1.0 / _count(place, side, WINDOW_HALF).to(tl.float32)
    one_mean *= inverse
    other_mean *= inverse
    one_variance = tl.maximum(one_square * inverse - one_mean * one_mean, 0.0)
    other_variance = tl.maximum(other_square * inverse - other_mean * other_mean, 0.0)
    both = product * inverse - one_mean * other_mean
    if LAST:
        denominator = one_variance * other_variance + eps
        numerator = both * both
        change = one_variance - other_variance
        if BALANCED:
            denominator += balance * change * change
            numerator += eps
        correlation = numerator / denominator
        if WEIGHTED:
            volume = depth * height * width
            counted = tl.load(weight + (voxel // (volume * channels)) * weight_stride + voxel % volume, exists, 0.0)
        else:
            counted = tl.where(exists, uniform_weight, 0.0)
        tl.store(sums + tl.program_id(0), tl.sum(correlation * counted, 0))
        voxels = _count((voxel // (height * width)) % depth, depth, WINDOW_HALF)
        voxels *= _count((voxel // width) % height, height, WINDOW_HALF)
        voxels *= _count(voxel % width, width, WINDOW_HALF)
        counted *= 2.0 / voxels.to(tl.float32)
        by_covariance = both / denominator * counted
        by_product = -correlation / denominator * counted
        by_fixed, by_warped = by_product * other_variance, by_product * one_variance
        if BALANCED:
            by_fixed = by_product * (other_variance + 2.0 * balance * change)
            by_warped = by_product * (one_variance - 2.0 * balance * change)
        tl.store(first_out + voxel, by_covariance * other_mean + by_fixed * one_mean, exists)
        tl.store(second_out + voxel, by_covariance * one_mean + by_warped * other_mean, exists)
        tl.store(third_out + voxel, by_fixed, exists)
        tl.store(fourth_out + voxel, by_warped, exists)
        tl.store(fifth_out + voxel, by_covariance, exists)
    else:
        tl.store(first_out + voxel, one_mean, exists)
        tl.store(second_out + voxel, other_mean, exists)
        tl.store(third_out + voxel, one_variance, exists)
        tl.store(fourth_out + voxel, other_variance, exists)
        tl.store(fifth_out + voxel, both, exists)


@triton.jit
def _gather(
    image, other, by_covariance, by_variance, towards,
    by_covariance_out, by_variance_out, towards_out,
    gradient, size, side, stride,
    HALF: tl.constexpr, LAST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sum the derivatives over the windows along one more axis; the last sum is the gradient."""
    voxel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    exists = voxel < size
    place = (voxel // stride) % side
    own_image, own_other = tl.load(image + voxel, exists, 0.0), tl.load(other + voxel, exists, 0.0)
    covariance_sum = tl.zeros((BLOCK,), tl.float32)
    variance_sum, pull = covariance_sum, covariance_sum
    for step in tl.static_range(2 * HALF + 1):
        there = place + (step - HALF)
        held = exists & (there >= 0) & (there < side)
        near = voxel + (step - HALF) * stride
        along_covariance = tl.load(by_covariance + near, held, 0.0)  # 0 beyond the border, and so is all that it weighs
        along_variance = tl.load(by_variance + near, held, 0.0)
        covariance_sum += along_covariance
        variance_sum += along_variance
        pull += tl.load(towards + near, held, 0.0)
        pull += along_covariance * (tl.load(other + near, held, 0.0) - own_other)
        pull += along_variance * (tl.load(image + near, held, 0.0) - own_image)
    if LAST:
        tl.store(towards_out + voxel, -pull * tl.load(gradient), exists)
    else:
        tl.store(by_covariance_out + voxel, covariance_sum, exists)
        tl.store(by_variance_out + voxel, variance_sum, exists)
        tl.store(towards_out + voxel, pull, exists)
