"""Flips, and the ten rotations by right angles."""

import torch
from torch import Tensor

from gvsl.augment.draw import happens

PLANES = ((3, 4), (2, 4), (2, 3))
"""Of (B, C, D, H, W): the axes that turn about D, about H, about W."""
ROTATIONS = 10
"""The identity, and 90, 180 and 270 degrees about each axis."""


def rotate(image: Tensor, rotations: Tensor) -> Tensor:
    """Rotate each cube by its own rotation: 0 is the identity, 1 + 3 * axis + k is k + 1 right angles about `axis`.

    Args:
        image: (B, C, S, S, S).
        rotations: (B,), int64 in [0, 10).
    """
    return torch.cat([_rotate_one(one, int(rotation)) for one, rotation in zip(image.split(1), rotations, strict=True)])


def rotate_back(image: Tensor, rotations: Tensor) -> Tensor:
    """Undo `rotate`: (B, C, S, S, S) to the same."""
    pairs = zip(image.split(1), rotations, strict=True)
    return torch.cat([_rotate_one(one, int(rotation), back=True) for one, rotation in pairs])


def _rotate_one(image: Tensor, rotation: int, back: bool = False) -> Tensor:
    if rotation == 0:
        return image
    axis, turns = divmod(rotation - 1, 3)
    return torch.rot90(image, -(turns + 1) if back else turns + 1, PLANES[axis])


def draw_flips(batch: int, rate: float, generator: torch.Generator) -> Tensor:
    """Whether each volume is flipped along each axis: (B, 3), bool."""
    return torch.cat([happens(batch, rate, generator).view(batch, 1) for _ in range(3)], dim=1)


def flip(image: Tensor, flips: Tensor) -> Tensor:
    """Flip volumes along the axes drawn for each: (B, C, D, H, W) to the same."""
    for axis in range(3):
        image = torch.where(flips[:, axis].view(-1, 1, 1, 1, 1), image.flip(2 + axis), image)
    return image
