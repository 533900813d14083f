"""Voxel coordinates and the one grid convention of the project."""

import torch
from torch import Tensor

ALIGN_CORNERS = True
"""-1 and 1 are the centres of the first and the last voxel, so that a zero DVF is the identity at any size."""


def identity_grid(shape: tuple[int, int, int], *, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """The position of every voxel, in voxels.

    Args:
        shape: (D, H, W).
        dtype: the coordinates' floating-point type.
        device: where the grid lies.

    Returns:
        (1, 3, D, H, W), components in axis order.
    """
    axes = [torch.arange(side, dtype=dtype, device=device) for side in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def normalised_grid(positions: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Positions in voxels as `torch.nn.functional.grid_sample` wants them.

    Args:
        positions: (B, 3, D, H, W) in voxels of a volume of `shape`, components in axis order.
        shape: (D, H, W) of the volume that is sampled, which may differ from that of the grid.

    Returns:
        (B, D, H, W, 3) in [-1, 1] inside the volume, components in reverse axis order.
    """
    sides = positions.new_tensor([max(side - 1, 1) for side in shape]).view(1, 3, 1, 1, 1)
    return (positions * (2 / sides) - 1).flip(1).permute(0, 2, 3, 4, 1)
