"""Restoring a damaged volume: denoising, in-painting (context encoders) and Models Genesis.

They differ in the damage alone: backbone, head and loss are the same.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gvsl.augment import (
    add_noise,
    change_intensity,
    draw_erased,
    draw_flips,
    draw_intensity,
    draw_noise,
    draw_painting,
    draw_shuffle,
    erase,
    flip,
    shuffle,
)
from gvsl.backbones import UNet3D
from gvsl.heads import RestorationHead
from gvsl.methods.method import Method, both_volumes
from gvsl.types import PairBatch


@dataclass(frozen=True)
class DenoisingSettings:
    """The pretext of denoising."""

    sigma: float = 0.1
    """Standard deviation of the noise, of the intensity range (this project's; Vincent et al. 2010 vary it)."""


@dataclass(frozen=True)
class InpaintingSettings:
    """The pretext of in-painting."""

    most_boxes: int = 5
    """Greatest number of boxes that are erased to 0."""
    least_side: float = 1 / 6
    """Least side of a box, of the volume's."""
    greatest_side: float = 1 / 3
    """Greatest side of a box, of the volume's."""


@dataclass(frozen=True)
class ModelsGenesisSettings:
    """The pretext of Models Genesis."""

    shuffle_rate: float = 0.5
    """Probability of local shuffling (Zhou et al. 2021: 0.5)."""
    intensity_rate: float = 0.9
    """Probability of the non-linear intensity curve (0.9)."""
    falling: float = 0.5
    """Share of the curves that fall (half)."""
    paint_rate: float = 0.9
    """Probability of painting (0.9)."""
    inner: float = 0.2
    """Share of inner among all painting; the rest is outer (0.2 and 0.8)."""
    flip_rate: float = 0.4
    """Probability of a flip along each axis, of the volume and of what is to be restored (0.4)."""


class Restoration(Method):
    """A backbone and a restoration head that undo a damage."""

    def __init__(self, backbone: UNet3D, settings: Any) -> None:
        super().__init__()
        self.settings = settings
        self.backbone = backbone
        self.restoration = RestorationHead(backbone.width, backbone.in_channels)

    def parts(self) -> dict[str, nn.Module]:
        """The parts whose gradients are watched, by name."""
        return {"backbone": self.backbone, "restoration": self.restoration}

    @abstractmethod
    def damage(self, volumes: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What is shown and what is to be restored: (B, C, D, H, W) to two of them."""

    def training_step(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Restore both volumes of each pair by mean squared error; log beside it the error of doing nothing."""
        damaged, whole = self.damage(both_volumes(batch), generator)
        error = functional.mse_loss(self.restore(damaged).float(), whole.float())
        nothing = functional.mse_loss(damaged.float(), whole.float())
        return {"loss": error, "restoration": error.detach(), "restoration_identity": nothing}

    def restore(self, damaged: Tensor) -> Tensor:
        """Restore a batch of damaged volumes: (B, C, D, H, W)."""
        restored: Tensor = self.restoration(self.backbone(damaged).local)
        return restored


class Denoising(Restoration):
    """Restore a volume from added Gaussian noise (Vincent et al. 2010)."""

    def __init__(self, backbone: UNet3D, settings: DenoisingSettings | None = None) -> None:
        super().__init__(backbone, settings or DenoisingSettings())

    def damage(self, volumes: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Add noise."""
        return add_noise(volumes, draw_noise(tuple(volumes.shape), self.settings.sigma, generator)), volumes


class Inpainting(Restoration):
    """Restore boxes that were erased from a volume (Pathak et al. 2016)."""

    def __init__(self, backbone: UNet3D, settings: InpaintingSettings | None = None) -> None:
        super().__init__(backbone, settings or InpaintingSettings())

    def damage(self, volumes: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Erase boxes."""
        chosen = self.settings
        sides = (chosen.least_side, chosen.greatest_side)
        draw = draw_erased(len(volumes), _shape(volumes), chosen.most_boxes, sides, generator)
        return erase(volumes, draw), volumes


class ModelsGenesis(Restoration):
    """Restore a volume that was shuffled, changed in intensity and painted over (Zhou et al. 2021)."""

    def __init__(self, backbone: UNet3D, settings: ModelsGenesisSettings | None = None) -> None:
        super().__init__(backbone, settings or ModelsGenesisSettings())

    def damage(self, volumes: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Flip, then shuffle, bend intensities and paint; the flip stays in what is to be restored."""
        chosen, count, shape = self.settings, len(volumes), _shape(volumes)
        whole = flip(volumes, draw_flips(count, chosen.flip_rate, generator))
        damaged = shuffle(whole, draw_shuffle(count, shape, chosen.shuffle_rate, generator))
        curves = draw_intensity(count, chosen.intensity_rate, generator, falling=chosen.falling)
        painting = draw_painting(count, shape, chosen.paint_rate, chosen.inner, generator)
        return erase(change_intensity(damaged, curves), painting), whole


def _shape(image: Tensor) -> tuple[int, int, int]:
    """(D, H, W) of a batch."""
    return image.shape[2], image.shape[3], image.shape[4]
