"""Two views of a volume for the contrastive methods: boxes that overlap, moved, bent and changed in appearance."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from gvsl.augment.appearance import AppearanceDraw, AppearanceSettings, change_appearance, draw_appearance
from gvsl.augment.draw import uniform
from gvsl.augment.spatial import SpatialSettings, draw_spatial
from gvsl.errors import UserError
from gvsl.geometry import identity_grid, warp


@dataclass(frozen=True)
class ViewSettings:
    """How two views of a volume differ.

    Raises:
        UserError: a share is out of its range.
    """

    overlap: float = 0.5
    """Least share of the smaller box's volume that both boxes see."""
    least_side: float = 0.6
    """Least side of a box, of the volume's; the greatest is 1. A box is brought to the volume's size."""
    spatial: SpatialSettings = field(default_factory=SpatialSettings)
    """Spatial augmentation of each view, drawn for each."""
    appearance: AppearanceSettings = field(default_factory=AppearanceSettings)
    """Appearance transforms of each view, drawn for each; by default those of GVSL."""

    def __post_init__(self) -> None:
        if not 0 <= self.overlap <= 1:
            raise UserError(f"views.overlap is {self.overlap}: two boxes can share from 0 to 1 of the smaller")
        if not 0 < self.least_side <= 1:
            raise UserError(f"views.least_side is {self.least_side}: give more than 0 and at most 1")


class ViewDraw(NamedTuple):
    """How one view of each volume of a batch is made."""

    dvf: Tensor
    """(B, 3, D, H, W) in voxels: the box and the spatial augmentation in one field."""
    appearance: AppearanceDraw


def draw_boxes(batch: int, settings: ViewSettings, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw two overlapping boxes in each volume, as shares of its sides.

    A box has one share for its three sides, and along each axis the second one starts wherever it shares at least the
    cube root of the overlap with the first, so that the overlap by volume is met by every draw.

    Returns:
        (2, B, 3) first corners and (2, B, 3) sides, in [0, 1].
    """
    sides = uniform((2, batch, 1), settings.least_side, 1.0, generator).expand(2, batch, 3)
    first = torch.rand((batch, 3), generator=generator, device=generator.device) * (1 - sides[0])
    shared = settings.overlap ** (1 / 3) * sides.amin(dim=0)
    low = (first + shared - sides[1]).clamp(min=0)
    high = torch.minimum(first + sides[0] - shared, 1 - sides[1])
    second = low + torch.rand((batch, 3), generator=generator, device=generator.device) * (high - low)
    return torch.stack([first, second]), sides


def draw_views(
    batch: int, shape: tuple[int, int, int], settings: ViewSettings, generator: torch.Generator
) -> tuple[ViewDraw, ViewDraw]:
    """Draw two views of each volume.

    Args:
        batch: B.
        shape: (D, H, W), each side at least 2.
        settings: how the views differ.
        generator: where the numbers come from.
    """
    corners, sides = draw_boxes(batch, settings, generator)
    one, other = (
        ViewDraw(
            _box_field(corner, side, draw_spatial(batch, shape, settings.spatial, generator)),
            draw_appearance(batch, shape, settings.appearance, generator),
        )
        for corner, side in zip(corners, sides, strict=True)
    )
    return one, other


def make_view(image: Tensor, draw: ViewDraw) -> Tensor:
    """Make one view of each volume, in one interpolation: (B, C, D, H, W) in [0, 1] to the same.

    Beyond the scan the border is repeated.
    """
    return change_appearance(warp(image, draw.dvf, padding="border"), draw.appearance)


def _box_field(corner: Tensor, side: Tensor, spatial: Tensor) -> Tensor:
    """The field that looks first through the spatial augmentation, then into the box.

    Args:
        corner: (B, 3), of the volume's sides.
        side: (B, 3), of the volume's sides.
        spatial: (B, 3, D, H, W) in voxels.
    """
    shape = (spatial.shape[2], spatial.shape[3], spatial.shape[4])
    grid = identity_grid(shape, dtype=spatial.dtype, device=spatial.device)
    last = torch.tensor(shape, device=spatial.device, dtype=spatial.dtype) - 1
    scale, shift = (each.view(*each.shape, 1, 1, 1) for each in (side, corner * last))
    return shift + scale * (grid + spatial) - grid
