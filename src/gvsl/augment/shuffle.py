"""Local shuffling: the voxels of many small boxes change places (Appendix C)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gvsl.augment.draw import happens

LARGEST_SIDE = 1 / 20
"""Of the image's side, for the largest box; at least two voxels, so that there is something to shuffle."""


class ShuffleDraw(NamedTuple):
    """Where each voxel of each tile comes from; tiles lie side by side from `offset` on."""

    tile: tuple[int, int, int]
    offset: tuple[int, int, int]
    source: Tensor
    """(B, tiles, voxels a tile), int64: index in the tile of the voxel that comes here."""


def draw_shuffle(
    batch: int,
    shape: tuple[int, int, int],
    rate: float,
    generator: torch.Generator,
    largest: float = LARGEST_SIDE,
) -> ShuffleDraw:
    """Draw a local shuffling: one box of random place and sides in each tile of a randomly placed tiling.

    Boxes in tiles don't overlap, so a shuffled volume holds exactly the voxels that it held before.

    Args:
        batch: B.
        shape: (D, H, W), each side at least 2.
        rate: probability that a volume is shuffled.
        generator: where the numbers come from.
        largest: the largest box's side, of the image's side.
    """
    device = generator.device
    sides = [min(max(2, round(side * largest)), side) for side in shape]
    tile = (sides[0], sides[1], sides[2])
    slack = torch.rand(3, generator=generator, device=device).tolist()
    offset = [int(part * (side % size + 1)) for part, side, size in zip(slack, shape, tile, strict=True)]
    tiles = math.prod(side // size for side, size in zip(shape, tile, strict=True))
    inside = happens(batch, rate, generator).view(batch, 1, 1).expand(batch, tiles, math.prod(tile))
    place = torch.stack(torch.meshgrid(*(torch.arange(size, device=device) for size in tile), indexing="ij"))
    place = place.reshape(3, -1)
    for axis, size in enumerate(tile):
        side = torch.randint(1, size + 1, (batch, tiles, 1), generator=generator, device=device)
        room = torch.rand((batch, tiles, 1), generator=generator, device=device)
        start = (room * (size - side + 1)).long()
        inside = inside & (place[axis] >= start) & (place[axis] < start + side)
    # Voxels outside the box sort last and in order in both lists, so they stay where they are.
    key = torch.rand(inside.shape, generator=generator, device=device)
    index = torch.arange(inside.shape[2], device=device).expand(inside.shape)
    to = torch.where(inside, index, index + inside.shape[2]).argsort(dim=2)
    source = torch.where(inside, key, index + 1.0).argsort(dim=2)
    return ShuffleDraw(tile, (offset[0], offset[1], offset[2]), torch.empty_like(to).scatter_(2, to, source))


def shuffle(image: Tensor, draw: ShuffleDraw) -> Tensor:
    """Shuffle volumes: (B, C, D, H, W) to the same shape."""
    batch, channels = image.shape[:2]
    counts = [side // size for side, size in zip(image.shape[2:], draw.tile, strict=True)]
    region = (
        *(slice(None), slice(None)),
        *(
            slice(first, first + count * size)
            for first, count, size in zip(draw.offset, counts, draw.tile, strict=True)
        ),
    )
    split = [part for pair in zip(counts, draw.tile, strict=True) for part in pair]
    tiled = image[region].reshape(batch, channels, *split).permute(0, 1, 2, 4, 6, 3, 5, 7)
    order = tiled.shape
    tiled = tiled.reshape(batch, channels, math.prod(counts), math.prod(draw.tile))
    moved = tiled.gather(3, draw.source[:, None].expand_as(tiled)).reshape(order).permute(0, 1, 2, 5, 3, 6, 4, 7)
    shuffled = image.clone()
    shuffled[region] = moved.reshape(shuffled[region].shape)
    return shuffled
