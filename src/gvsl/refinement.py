"""Refinement of a field on its own pair of volumes, at test time."""

from dataclasses import replace

import torch
from torch import Tensor

from gvsl.geometry import compose, resize_dvf, shrink, smoother, spatial_shape, warp
from gvsl.losses import local_ncc_loss
from gvsl.settings.refinement import RefinementSettings as RefinementSettings

MOMENTUM = 0.9
"""Decay of the mean gradient (Adam)."""
SECOND_MOMENTUM = 0.99
"""Decay of the mean squared gradient (Adam); shorter than Adam's usual, since a pair takes some 40 steps."""
SCHEDULE = ((4, 0.15, 0.4), (2, 0.6, 1.0), (1, 0.25, 1.0))
"""Factors by which the volumes are shrunk, with the fraction of the steps and the length of a step at each. Coarse
steps are cheap; at a quarter they are shorter, since a voxel there is four of the volume's."""
LAST_STEP = 0.3
"""Length of the last step at each resolution, as a fraction of the first."""
MIN_SIDE = 8
"""Minimum side in voxels of a shrunk volume; smaller ones are left out."""
DAMPING = 0.003
"""Change of the NCC per voxel of displacement below which steps become shorter, so that a match that is there stays."""


def refine(start: Tensor, moving: Tensor, fixed: Tensor, settings: RefinementSettings | None = None) -> Tensor:
    """Improve a field by maximising the local NCC of a pair, coarse to fine.

    Each step composes the field with a small, smooth update, Adam's direction for the NCC's gradient, and smooths the
    whole change. Compositions of such updates hardly fold; a fold of the start stays. Pairs of a batch do not affect
    each other. The start itself is not smoothed, so that a large affine part is kept.

    Source: greedy compositional registration with an adaptive optimiser, R. Jena, P. Chaudhari and J. C. Gee. FireANTs:
    Adaptive Riemannian Optimization for Multi-Scale Diffeomorphic Matching (2024). https://arxiv.org/abs/2404.01249

    Args:
        start: (B, 3, D, H, W), in voxels; zeros start from no network.
        moving: (B, C, D, H, W).
        fixed: (B, C, D, H, W).
        settings: by default `RefinementSettings()`.

    Returns:
        (B, 3, D, H, W), in voxels, without a gradient.

    >>> ramp = torch.linspace(0, 1, 16).view(1, 1, 16, 1, 1).expand(1, 1, 16, 16, 16)
    >>> refine(torch.zeros(1, 3, 16, 16, 16), ramp, ramp, RefinementSettings(steps=2)).shape
    torch.Size([1, 3, 16, 16, 16])
    """
    settings = settings or RefinementSettings()
    with torch.no_grad():
        start = start.detach().float()
        aligned = warp(moving.float(), start, padding="border")
        change = torch.zeros_like(start)
        for factor, steps, scale in _schedule(settings.steps, spatial_shape(fixed)):
            images = shrink(aligned, factor), shrink(fixed.float(), factor)
            change = resize_dvf(change, spatial_shape(images[1]))
            change = _climb(change, *images, steps, replace(settings, step=scale * settings.step))
        return compose(start, resize_dvf(change, spatial_shape(fixed)))


def _schedule(steps: int, shape: tuple[int, int, int]) -> list[tuple[int, int, float]]:
    """Return the factors by which the volumes are shrunk, with the number and the scale of the steps at each."""
    found, left = [], steps
    for factor, fraction, scale in SCHEDULE:
        number = left if factor == 1 else round(fraction * steps)
        if number and (factor == 1 or min(shape) // factor >= MIN_SIDE):
            found.append((factor, number, scale))
            left -= number
    return found


def _climb(change: Tensor, moving: Tensor, fixed: Tensor, steps: int, settings: RefinementSettings) -> Tensor:
    """Take the steps of one resolution."""
    mean, squares = torch.zeros_like(change), torch.zeros_like(change)
    smooth_update, smooth_field = (smoother(change, sigma) for sigma in (settings.update_sigma, settings.field_sigma))
    for step in range(steps):
        gradient = smooth_update(_gradient(change, moving, fixed, settings))
        mean.lerp_(gradient, 1 - MOMENTUM)
        squares.lerp_(gradient.square(), 1 - SECOND_MOMENTUM)
        length = (squares.sum(dim=1, keepdim=True) / (1 - SECOND_MOMENTUM ** (step + 1))).sqrt()
        direction = mean / (1 - MOMENTUM ** (step + 1)) / (length + DAMPING)
        size = settings.step * (1 - (1 - LAST_STEP) * step / steps)
        change = smooth_field(compose(change, -size * smooth_update(direction)))
    return change


def _gradient(change: Tensor, moving: Tensor, fixed: Tensor, settings: RefinementSettings) -> Tensor:
    """Return the gradient of the NCC loss, summed over voxels, with respect to each pair's field."""
    with torch.enable_grad():
        change = change.detach().requires_grad_()
        warped = warp(moving, change, padding="border", exact=False)
        loss = local_ncc_loss(
            fixed, warped, window=settings.window, eps=settings.variance_floor, balance=settings.balance
        )
        return torch.autograd.grad(loss * fixed[:, 0].numel(), change)[0]
