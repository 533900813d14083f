"""Random smooth fields as strong as a matched one: the control of atlases that are warped by matching."""

import hashlib
from itertools import count

import numpy as np
import torch
from scipy.fft import dctn, idctn
from torch import Tensor

from gvsl.geometry import compose, gaussian_smooth, nonpositive_jacobian_fraction

SQUARINGS = 5
"""A field is composed of two to this power small ones, which hardly fold."""
SMOOTHEST = 8
"""Largest standard deviation in voxels by which a velocity is smoothed before it is weakened instead."""
CORRECTIONS = 4
"""Rounds in which the strength is corrected: composing changes it by some 5 % of hippocampus and left-atrium MR."""


def random_like(dvf: Tensor, *seeds: object) -> Tensor:
    """Return a random field without folds, of the strength and the smoothness of another, and else unlike it.

    The signs of the other field's cosine coefficients are drawn at random. That keeps the power at every spatial
    frequency of each component, but would fold; so the result is taken for a velocity and integrated, by scaling and
    squaring, and each component scaled to the other's root mean square. If it folds, the velocity is smoothed, and at
    last the field weakened: one like a turn by 90 degrees folds however smooth it is.

    Args:
        dvf: (1, 3, D, H, W), in voxels.
        seeds: what the signs are drawn by: the same ones give the same field.

    Returns:
        (1, 3, D, H, W), in voxels.
    """
    digest = hashlib.sha256("\n".join(map(str, seeds)).encode()).digest()
    generator = np.random.default_rng(np.frombuffer(digest, np.uint32))
    axes = (2, 3, 4)
    coefficients = dctn(dvf.detach().cpu().double().numpy(), axes=axes, norm="ortho")
    signs = 2.0 * generator.integers(0, 2, coefficients.shape) - 1
    drawn = torch.from_numpy(idctn(coefficients * signs, axes=axes, norm="ortho")).to(dvf)
    for attempt in count():
        weaker = 0.5 ** max(attempt - SMOOTHEST, 0)
        found = _integrated(gaussian_smooth(drawn, min(attempt, SMOOTHEST)), weaker * _strength(dvf))
        if not nonpositive_jacobian_fraction(found):
            return found
    raise AssertionError  # a field that moves nothing doesn't fold


def _integrated(velocity: Tensor, strength: Tensor) -> Tensor:
    """Return the field to which a velocity integrates, of a strength for each component."""
    factor = strength / _strength(velocity)
    for _ in range(CORRECTIONS):
        field = factor * velocity / 2**SQUARINGS
        for _ in range(SQUARINGS):
            field = compose(field, field)
        factor = factor * strength / _strength(field)
    return field


def _strength(dvf: Tensor) -> Tensor:
    """Return the root mean square of each component, (1, 3, 1, 1, 1), in voxels."""
    return dvf.square().mean(dim=(2, 3, 4), keepdim=True).sqrt().clamp(min=1e-6)
