"""Local shuffling: the voxels within many small boxes are permuted (Appendix C)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gvsl.augment.draw import bernoulli, on_host, rand, randint

MAX_SIDE = 1 / 20
"""Maximum side of a box, as a fraction of the image's side; at least two voxels."""


class ShuffleDraw(NamedTuple):
    """Source of each voxel within adjacent tiles, the first of which begins at `offset`."""

    tile: tuple[int, int, int]
    offset: tuple[int, int, int]
    source: Tensor
    """(B, tiles, voxels per tile), int64: index of the source voxel in the tile."""


def draw_shuffle(
    batch: int,
    shape: tuple[int, int, int],
    rate: float,
    generator: torch.Generator,
    max_side: float = MAX_SIDE,
) -> ShuffleDraw:
    """Sample a local shuffling: one box of random position and sides in each tile of a randomly placed tiling.

    Boxes in different tiles do not overlap, so that the shuffled volume is a permutation of the original. A volume of
    `shape` (D, H, W), each side at least 2, is shuffled with probability `rate`. `max_side` is the maximum side of a
    box, as a fraction of the image's side.
    """
    device = generator.device
    sides = [min(max(2, round(side * max_side)), side) for side in shape]
    tile = (sides[0], sides[1], sides[2])
    slack = torch.rand(3, generator=on_host(generator)).tolist()  # of all volumes, in all processes
    offset = [int(part * (side % size + 1)) for part, side, size in zip(slack, shape, tile, strict=True)]
    tiles = math.prod(side // size for side, size in zip(shape, tile, strict=True))
    inside = bernoulli(batch, rate, generator).view(batch, 1, 1).expand(batch, tiles, math.prod(tile))
    position = torch.stack(torch.meshgrid(*(torch.arange(size, device=device) for size in tile), indexing="ij"))
    position = position.reshape(3, -1)
    for axis, size in enumerate(tile):
        side = randint(1, size + 1, (batch, tiles, 1), generator)
        room = rand((batch, tiles, 1), generator)
        start = (room * (size - side + 1)).long()
        inside = inside & (position[axis] >= start) & (position[axis] < start + side)
    # Voxels outside the box sort last and in order in both lists, so that they keep their positions.
    key = rand(tuple(inside.shape), generator)
    index = torch.arange(inside.shape[2], device=device).expand(inside.shape)
    to = torch.where(inside, index, index + inside.shape[2]).argsort(dim=2)
    source = torch.where(inside, key, index + 1.0).argsort(dim=2)
    return ShuffleDraw(tile, (offset[0], offset[1], offset[2]), torch.empty_like(to).scatter_(2, to, source))


def shuffle(image: Tensor, draw: ShuffleDraw) -> Tensor:
    """Shuffle the voxels of volumes, (B, C, D, H, W)."""
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
    permuted = tiled.gather(3, draw.source[:, None].expand_as(tiled)).reshape(order).permute(0, 1, 2, 5, 3, 6, 4, 7)
    shuffled = image.clone()
    shuffled[region] = permuted.reshape(shuffled[region].shape)
    return shuffled
