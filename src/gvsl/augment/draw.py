"""Random numbers and boxes for the augmentations, from a generator that is passed in and on its device."""

import torch
from torch import Tensor


def uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Sample uniform numbers in [low, high), float32."""
    return torch.rand(shape, generator=generator, device=generator.device) * (high - low) + low


def bernoulli(batch: int, rate: float, generator: torch.Generator) -> Tensor:
    """Sample, for each volume of a batch, True with probability `rate`: (B, 1, 1, 1, 1), bool."""
    return torch.rand((batch, 1, 1, 1, 1), generator=generator, device=generator.device) < rate


def boxes(
    batch: int, count: int, shape: tuple[int, int, int], sides: tuple[float, float], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Sample `count` random boxes inside each volume of `shape` (D, H, W).

    Each side is uniform between two fractions, `sides`, of the volume's side, and at least one voxel.

    Returns:
        The first voxel and the one past the last, (B, count, 3), int64, each.
    """
    limits = torch.tensor(shape, device=generator.device, dtype=torch.float32)
    size = (uniform((batch, count, 3), *sides, generator) * limits).round().clamp(min=1)
    start = (torch.rand((batch, count, 3), generator=generator, device=generator.device) * (limits - size + 1)).floor()
    return start.long(), (start + size).long()


def box_mask(start: Tensor, stop: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Return the union of boxes, (B, K, 3) each, as a mask (B, 1, D, H, W); a box with stop = start is empty."""
    along = []
    for axis, side in enumerate(shape):
        position = torch.arange(side, device=start.device)
        along.append(((position >= start[..., axis, None]) & (position < stop[..., axis, None])).float())
    return (torch.einsum("bkx,bky,bkz->bxyz", *along) > 0)[:, None]
