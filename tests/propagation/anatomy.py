"""A made-up anatomy, and deformed copies of it."""

import torch
from torch import Tensor

from gvsl.geometry import gaussian_smooth, warp
from gvsl.metrics.dice import dice_per_structure
from gvsl.propagation import Atlas

SHAPE = (24, 20, 22)


def anatomy() -> tuple[Tensor, Tensor]:
    """A textured volume with two structures side by side, no axis or direction like another."""
    points = torch.stack(torch.meshgrid(*(torch.arange(float(side)) for side in SHAPE), indexing="ij"))
    image = 0.3 + 0.15 * gaussian_smooth(torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(0)), 1.5)
    classes = torch.zeros(1, 1, *SHAPE, dtype=torch.long)
    for value, centre, radii in ((1, (9, 9, 8), (6, 4, 3)), (2, (16, 11, 14), (3, 3, 5))):
        middle, axes = (torch.tensor(each).view(3, 1, 1, 1) for each in (centre, radii))
        classes[0, 0][(((points - middle) / axes) ** 2).sum(0) < 1] = value
    return gaussian_smooth(image + 0.3 * (classes == 1) + 0.5 * (classes == 2), 0.7), classes


def moved(volume: Tensor, seed: int, *, nearest: bool = False) -> Tensor:
    noise = torch.randn(1, 3, *SHAPE, generator=torch.Generator().manual_seed(seed))
    dvf = gaussian_smooth(noise, 4.0)
    dvf = 1.6 * dvf / dvf.std()
    mode = "nearest" if nearest else "bilinear"
    return warp(volume.float(), dvf, mode=mode, padding="border").to(volume.dtype)  # type: ignore[arg-type]


def atlas(image: Tensor, classes: Tensor, name: str = "a") -> Atlas:
    return Atlas(name, image, classes, 3)


def dice(found: Tensor, truth: Tensor) -> float:
    return sum(dice_per_structure(found, truth, 3)) / 2
