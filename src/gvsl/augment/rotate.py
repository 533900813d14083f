"""The ten rotations of a cube that the rotation pretext tells apart: none, and 90, 180, 270 degrees about each axis."""

import torch
from torch import Tensor

ROTATIONS: tuple[tuple[int, tuple[int, int]], ...] = (
    (0, (2, 3)),
    *((quarters, plane) for plane in ((3, 4), (2, 4), (2, 3)) for quarters in (1, 2, 3)),
)
"""Quarter turns, and the plane of (B, C, D, H, W) that they turn."""


def draw_rotation(batch: int, generator: torch.Generator) -> Tensor:
    """Draw one of the ten for each volume: (B,), int64."""
    return torch.randint(len(ROTATIONS), (batch,), generator=generator, device=generator.device)


def rotate(image: Tensor, draw: Tensor, *, back: bool = False) -> Tensor:
    """Rotate cubes, exactly: (B, C, D, D, D) and (B,) to the same; `back` undoes it.

    Raises:
        ValueError: the volumes are no cubes.
    """
    if len(set(image.shape[2:])) > 1:
        raise ValueError(f"volumes of {tuple(image.shape[2:])} are no cubes: a quarter turn would change their shape")
    turned = []
    for volume, index in zip(image.split(1), draw.tolist(), strict=True):
        quarters, plane = ROTATIONS[index]
        turned.append(torch.rot90(volume, -quarters if back else quarters, plane))
    return torch.cat(turned)
