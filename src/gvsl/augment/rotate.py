"""The ten rotations of a cube in the rotation pretext: none, and 90, 180 and 270 degrees about each axis."""

import torch
from torch import Tensor

from gvsl.augment.draw import on_host, randint

ROTATIONS: tuple[tuple[int, tuple[int, int]], ...] = (
    (0, (2, 3)),
    *((quarters, plane) for plane in ((3, 4), (2, 4), (2, 3)) for quarters in (1, 2, 3)),
)
"""Number of quarter turns, and the axes of (B, C, D, H, W) that span the plane of rotation."""


def draw_rotation(batch: int, generator: torch.Generator) -> Tensor:
    """Sample one of the ten rotations for each volume: (B,), int64, in the host's memory, which must know them."""
    return randint(0, len(ROTATIONS), (batch,), on_host(generator))


def rotate(image: Tensor, draw: Tensor) -> Tensor:
    """Rotate cubes without interpolation.

    Args:
        image: (B, C, D, D, D).
        draw: index into ROTATIONS of each volume, (B,).

    Raises:
        ValueError: the volumes are not cubes.
    """
    if len(set(image.shape[2:])) > 1:
        raise ValueError(
            f"volumes of {tuple(image.shape[2:])} are not cubes, whose shape a quarter turn preserves: crop them"
        )
    rotated = []
    for volume, index in zip(image.split(1), draw.tolist(), strict=True):
        quarters, plane = ROTATIONS[index]
        rotated.append(torch.rot90(volume, quarters, plane))
    return torch.cat(rotated)
