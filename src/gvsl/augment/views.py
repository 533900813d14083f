"""Two views of a volume for the two-view methods: overlapping crops, each augmented in space and appearance."""

from typing import NamedTuple

import torch
from torch import Tensor

from gvsl.augment.appearance import AppearanceDraw, change_appearance, draw_appearance
from gvsl.augment.draw import rand, uniform
from gvsl.augment.spatial import draw_spatial
from gvsl.geometry import constants, identity_grid, warp
from gvsl.settings.augment import ViewSettings as ViewSettings

BISECTIONS = 30


class ViewDraw(NamedTuple):
    """One view of each volume of a batch."""

    start: Tensor
    """The box's first corner, as fractions of the volume's sides: (B, 3)."""
    side: Tensor
    """The box's side, as a fraction of the volume's sides: (B, 1)."""
    dvf: Tensor
    """(B, 3, d, h, w), in voxels of the volume, on the view's grid."""
    appearance: AppearanceDraw


def check_views(settings: ViewSettings) -> None:
    """Check that the settings can be met.

    Raises:
        ValueError: they can't; the message has a number that would do.
    """
    if not 0 < settings.smallest <= settings.largest <= 1:
        raise ValueError(
            f"views are boxes of {settings.smallest:g} to {settings.largest:g} of a side: "
            "give 0 < views.smallest <= views.largest <= 1"
        )
    limit = (settings.smallest / settings.largest) ** 3
    if not 0 <= settings.least_overlap <= limit + 1e-9:
        needed = settings.largest * min(1.0, max(0.0, settings.least_overlap)) ** (1 / 3)
        raise ValueError(
            f"views.least_overlap is {settings.least_overlap:g}, but boxes of {settings.smallest:g} to "
            f"{settings.largest:g} of a side are only certain to share {limit:.3g} of the larger one: give "
            f"{limit:.3g} or less" + (f", or views.smallest {needed:.3g}" if settings.least_overlap <= 1 else "")
        )


def draw_views(
    batch: int, shape: tuple[int, int, int], settings: ViewSettings, generator: torch.Generator, channels: int = 1
) -> tuple[ViewDraw, ViewDraw]:
    """Sample two views of each of B volumes of `shape` (D, H, W).

    Both boxes are uniform in size and position. If they overlap too little, the second is shifted towards the first by
    the minimum that is needed.
    """
    sides = [uniform((batch, 1), settings.smallest, settings.largest, generator) for _ in range(2)]
    starts = [rand((batch, 3), generator) * (1 - side) for side in sides]
    starts[1] = _shift_towards(starts[0], sides[0], starts[1], sides[1], settings.least_overlap)
    first, second = (
        _draw_view(start, side, shape, settings, generator, channels) for start, side in zip(starts, sides, strict=True)
    )
    return first, second


def make_view(image: Tensor, draw: ViewDraw) -> Tensor:
    """Return one view of each volume, in one interpolation: (B, C, D, H, W), in [0, 1], to (B, C, d, h, w)."""
    return change_appearance(warp(image, draw.dvf, padding="border"), draw.appearance)


def overlap(start: Tensor, side: Tensor, other_start: Tensor, other_side: Tensor) -> Tensor:
    """Return the overlap of two boxes as a fraction of the larger one: starts (B, 3) and sides (B, 1) to (B,)."""
    shared = torch.minimum(start + side, other_start + other_side) - torch.maximum(start, other_start)
    return shared.clamp(min=0).prod(dim=1) / torch.maximum(side, other_side)[:, 0] ** 3


def _shift_towards(start: Tensor, side: Tensor, other: Tensor, other_side: Tensor, min_overlap: float) -> Tensor:
    """Return the second box's start, shifted towards the first box by bisection until they overlap enough."""
    # The nearest position within the volume, where the larger box contains the smaller one.
    nearest = (start + side / 2 - other_side / 2).clamp(min=0).minimum(1 - other_side)
    near, far = torch.zeros_like(side), torch.ones_like(side)
    enough = (overlap(start, side, other, other_side) >= min_overlap)[:, None]
    for _ in range(BISECTIONS):
        middle = (near + far) / 2
        suffices = overlap(start, side, nearest + middle * (other - nearest), other_side)[:, None] >= min_overlap
        near, far = torch.where(suffices, middle, near), torch.where(suffices, far, middle)
    return torch.where(enough, other, nearest + near * (other - nearest))


def _draw_view(
    start: Tensor,
    side: Tensor,
    shape: tuple[int, int, int],
    settings: ViewSettings,
    generator: torch.Generator,
    channels: int,
) -> ViewDraw:
    sizes = [max(2, round(settings.smallest * length)) for length in shape]
    size = (sizes[0], sizes[1], sizes[2])
    grid = identity_grid(size, dtype=torch.float32, device=generator.device)
    augmented = grid + draw_spatial(len(start), size, settings.spatial, generator)
    lengths = constants(shape, torch.float32, generator.device) - 1
    spacing = side * lengths / (constants(size, torch.int64, generator.device) - 1)
    corner = start * lengths
    positions = corner.view(-1, 3, 1, 1, 1) + augmented * spacing.view(-1, 3, 1, 1, 1)
    appearance = draw_appearance(len(start), size, settings.appearance, generator, channels)
    return ViewDraw(start, side, positions - grid, appearance)
