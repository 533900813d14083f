"""The volumes on which a run's network is looked at: those that the run itself keeps, and noise."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gvsl.backbones import Backbone
from gvsl.report.runs import Run

MAX_OWN = 4
MAX_SIDE = 48
"""Voxels along a probe's side: its middle is taken."""
NOISE_SIDE = 32
"""Least voxels along a side of noise, of which the last level of a network keeps two or more."""
NOISE_CELL = 4
"""Voxels between two independent values of the noise."""


def own_volumes(run: Run) -> list[Tensor]:
    """Return volumes of a run's folder, of one shape, (1, 1, D, H, W) each in [0, 1]; none if it keeps none."""
    names = ("image", "moving", "fixed")
    arrays = [volume.arrays[name] for volume in run.volumes for name in names if name in volume.arrays][:MAX_OWN]
    if not arrays:
        return []
    shape = [min(MAX_SIDE, *sides) for sides in zip(*(array.shape for array in arrays), strict=True)]
    return [torch.from_numpy(_middle(array, shape).astype(np.float32) / 255)[None, None] for array in arrays]


def noise_volumes(shape: Sequence[int], count: int, channels: int = 1) -> list[Tensor]:
    """Return volumes of smooth noise in [0, 1], the same at each call, (1, channels, D, H, W) each."""
    generator = torch.Generator().manual_seed(0)
    coarse = [-(-side // NOISE_CELL) for side in shape]
    found = []
    for _ in range(count):
        values = torch.rand(1, channels, *coarse, generator=generator)
        found.append(functional.interpolate(values, size=tuple(shape), mode="trilinear", align_corners=True))
    return found


def probes(run: Run, backbone: Backbone) -> tuple[list[Tensor], int]:
    """Return the volumes to look at a run's network with, (1, in_channels, D, H, W), and how many are its own.

    A run keeps the first channel alone, so that a network of several is given noise.
    """
    channels = backbone.in_channels
    own = own_volumes(run) if channels == 1 else []
    shape = own[0].shape[2:] if own else (max(NOISE_SIDE, 2**backbone.levels),) * 3
    return own + noise_volumes(shape, 1 if len(own) > 1 else 2, channels), len(own)


def _middle(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    starts = [(size - side) // 2 for size, side in zip(array.shape, shape, strict=True)]
    return array[tuple(slice(start, start + side) for start, side in zip(starts, shape, strict=True))]
