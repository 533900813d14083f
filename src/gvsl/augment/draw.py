"""Random numbers for the augmentations, all from a generator that is passed in and on its device."""

import torch
from torch import Tensor


def uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Uniform numbers in [low, high), float32, on the generator's device."""
    return torch.rand(shape, generator=generator, device=generator.device) * (high - low) + low


def happens(batch: int, rate: float, generator: torch.Generator) -> Tensor:
    """Whether something happens to each of a batch's volumes, with probability `rate`: (B, 1, 1, 1, 1), bool."""
    return torch.rand((batch, 1, 1, 1, 1), generator=generator, device=generator.device) < rate


def boxes(
    batch: int, count: int, shape: tuple[int, int, int], least: float, most: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Random boxes inside a volume, each side uniform between two fractions of the volume's side.

    Args:
        batch: B.
        count: K boxes a volume.
        shape: (D, H, W).
        least: least side as a fraction; at least one voxel.
        most: greatest side as a fraction.
        generator: where the numbers come from.

    Returns:
        the first voxel and the one past the last, (B, K, 3) int64 each.
    """
    limits = torch.tensor(shape, device=generator.device, dtype=torch.float32)
    sides = (uniform((batch, count, 3), least, most, generator) * limits).round().clamp(min=1)
    start = (torch.rand((batch, count, 3), generator=generator, device=generator.device) * (limits - sides + 1)).floor()
    return start.long(), (start + sides).long()


def box_mask(start: Tensor, stop: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """The union of boxes: (B, K, 3) twice to (B, 1, D, H, W), bool. A box whose stop is its start is empty."""
    along = []
    for axis, side in enumerate(shape):
        position = torch.arange(side, device=start.device)
        along.append(((position >= start[..., axis, None]) & (position < stop[..., axis, None])).float())
    return (torch.einsum("bkx,bky,bkz->bxyz", *along) > 0)[:, None]
