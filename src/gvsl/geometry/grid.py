"""Voxel coordinates and the grid convention of the project."""

from collections.abc import Sequence

import torch
from torch import Tensor

ALIGN_CORNERS = True
"""-1 and 1 are the centres of the first and last voxels, so that a zero DVF is the identity at any size."""


def spatial_shape(volumes: Tensor) -> tuple[int, int, int]:
    """Return (D, H, W) of a batch, (B, C, D, H, W).

    >>> spatial_shape(torch.zeros(1, 3, 4, 5, 6))
    (4, 5, 6)
    """
    return volumes.shape[2], volumes.shape[3], volumes.shape[4]


def identity_grid(shape: tuple[int, int, int], *, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """Return the position of every voxel, in voxels.

    Args:
        shape: (D, H, W).
        dtype: floating-point type of the coordinates.
        device: device of the grid.

    Returns:
        (1, 3, D, H, W), components in axis order.

    >>> identity_grid((2, 3, 4), dtype=torch.float32, device="cpu")[0, :, 1, 2, 3]
    tensor([1., 2., 3.])
    """
    axes = [torch.arange(side, dtype=dtype, device=device) for side in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def normalised_grid(positions: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Convert positions in voxels to the coordinates of `torch.nn.functional.grid_sample`.

    Args:
        positions: (B, 3, D, H, W), in voxels of the sampled volume, components in axis order.
        shape: (D, H, W) of the sampled volume, which may differ from the grid's.

    Returns:
        (B, D, H, W, 3) in [-1, 1] inside the volume, components in reverse axis order.

    >>> normalised_grid(torch.tensor([0.0, 1.0, 4.0]).view(1, 3, 1, 1, 1), (5, 5, 5)).flatten()
    tensor([ 1.0000, -0.5000, -1.0000])
    """
    sides = constants([max(side - 1, 1) for side in shape], positions.dtype, positions.device).view(1, 3, 1, 1, 1)
    return (positions * (2 / sides) - 1).flip(1).permute(0, 2, 3, 4, 1)


def constants(values: Sequence[float], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return numbers as a tensor, (N,), without a copy from the host's memory, for which a GPU's queue is emptied.

    >>> constants([1, 2.5], torch.float32, torch.device("cpu"))
    tensor([1.0000, 2.5000])
    """
    return torch.stack([torch.full((), value, dtype=dtype, device=device) for value in values])
