"""Restore a damaged volume: denoising, in-painting and Models Genesis, which differ in the damage alone."""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.nn import functional

from gvsl.augment import (
    InpaintDraw,
    add_noise,
    change_intensity,
    draw_flip,
    draw_inpaint,
    draw_intensity,
    draw_noise,
    draw_shuffle,
    flip,
    inpaint,
    shuffle,
)
from gvsl.augment.draw import happens
from gvsl.backbones import UNet3D
from gvsl.heads import RestorationHead
from gvsl.methods.encoder import all_volumes
from gvsl.methods.method import LOSS, Method
from gvsl.records.metrics import LoggedMetric
from gvsl.types import PairBatch

RESTORATION_METRICS = (
    LoggedMetric("restoration", "Restoration error (MSE)", "lower"),
    LoggedMetric("restoration_identity", "Error of the damaged volume (MSE)"),
)


@dataclass(frozen=True)
class DenoisingSettings:
    """The noise of denoising."""

    sigma: float = 0.1
    """Standard deviation of the Gaussian noise, of the intensity range (ours; the paper doesn't say)."""


@dataclass(frozen=True)
class InpaintingSettings:
    """The boxes of in-painting."""

    most_boxes: int = 5
    """The most boxes a volume, each next one with probability 0.95 (Models Genesis' published code)."""
    smallest: float = 1 / 6
    """Least side of a box, of the volume's side (Models Genesis' published code)."""
    largest: float = 1 / 3
    """Greatest side of a box, of the volume's side (Models Genesis' published code)."""


@dataclass(frozen=True)
class ModelsGenesisSettings:
    """The four transforms of Models Genesis, at the rates of its published code."""

    flip_rate: float = 0.4
    """Probability of a flip along one axis, of the volume and of what it is restored to."""
    shuffle_rate: float = 0.5
    """Probability of local shuffling."""
    shuffle_largest: float = 1 / 10
    """Greatest side of a shuffled box, of the volume's side."""
    intensity_rate: float = 0.9
    """Probability of the non-linear intensity curve."""
    falling: float = 0.5
    """Share of the intensity curves that fall."""
    paint_rate: float = 0.9
    """Probability that something is erased."""
    inner_share: float = 0.2
    """Of that, how often boxes are erased (in-painting); else all but boxes is (out-painting)."""
    inner_smallest: float = 1 / 6
    """Least side of an erased box, of the volume's side."""
    inner_largest: float = 1 / 3
    """Greatest side of an erased box, of the volume's side."""
    outer_smallest: float = 3 / 7
    """Least side of a box that out-painting leaves, of the volume's side."""
    outer_largest: float = 4 / 7
    """Greatest side of a box that out-painting leaves, of the volume's side."""
    most_boxes: int = 5
    """The most boxes a volume, each next one with probability 0.95."""


class Restoration(Method):
    """A backbone and a restoration head; the subclasses say what the damage is."""

    logs = (LOSS, *RESTORATION_METRICS)

    def __init__(self, backbone: UNet3D) -> None:
        super().__init__()
        self.backbone = backbone
        self.restoration = RestorationHead(backbone.width, backbone.in_channels)

    @abstractmethod
    def damage(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The damaged volumes, and what they are to be restored to: (B, C, D, H, W) each."""

    def parts(self) -> dict[str, nn.Module]:
        """The parts that are trained."""
        return {"backbone": self.backbone, "restoration": self.restoration}

    def training_step(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """The mean squared error of the restoration, beside that of returning the damaged volume."""
        damaged, original = self.damage(all_volumes(batch), generator)
        error = functional.mse_loss(self.restore(damaged).float(), original.float())
        untouched = functional.mse_loss(damaged.float(), original.float())
        return {"loss": error, "restoration": error.detach(), "restoration_identity": untouched}

    def restore(self, damaged: Tensor) -> Tensor:
        """Restore a batch of damaged volumes: (B, C, D, H, W)."""
        restored: Tensor = self.restoration(self.backbone(damaged).local)
        return restored

    @torch.no_grad()
    def held_out(self, volumes: Iterable[Tensor], generator: torch.Generator) -> dict[str, float]:
        """Both errors, each volume damaged once."""
        errors = []
        for volume in volumes:
            damaged, original = self.damage(volume[None], generator)
            restored = self.restore(damaged)
            errors.append([float(functional.mse_loss(image, original)) for image in (restored, damaged)])
        restored_error, untouched = (fmean(column) for column in zip(*errors, strict=True))
        return {"restoration": restored_error, "restoration_identity": untouched}


class Denoising(Restoration):
    """Remove Gaussian noise from a volume."""

    def __init__(self, backbone: UNet3D, settings: DenoisingSettings | None = None) -> None:
        super().__init__(backbone)
        self.settings = settings = settings or DenoisingSettings()
        if not settings.sigma > 0:
            raise ValueError(f"sigma is {settings.sigma:g}: give more than 0, such as 0.1")

    def damage(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Add noise."""
        return add_noise(images, draw_noise(len(images), _shape(images), self.settings.sigma, generator)), images


class Inpainting(Restoration):
    """Fill in boxes that were erased from a volume."""

    def __init__(self, backbone: UNet3D, settings: InpaintingSettings | None = None) -> None:
        super().__init__(backbone)
        self.settings = settings = settings or InpaintingSettings()
        _check_boxes(settings.smallest, settings.largest, settings.most_boxes)

    def damage(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Erase boxes, which are filled with uniform noise."""
        chosen = self.settings
        draw = draw_inpaint(
            len(images),
            _shape(images),
            1.0,
            generator,
            smallest=chosen.smallest,
            largest=chosen.largest,
            most=chosen.most_boxes,
        )
        return inpaint(images, draw), images


class ModelsGenesis(Restoration):
    """Undo shuffling, bent grey values and painting, inner or outer."""

    def __init__(self, backbone: UNet3D, settings: ModelsGenesisSettings | None = None) -> None:
        super().__init__(backbone)
        self.settings = settings = settings or ModelsGenesisSettings()
        _check_boxes(settings.inner_smallest, settings.inner_largest, settings.most_boxes)
        _check_boxes(settings.outer_smallest, settings.outer_largest, settings.most_boxes)

    def damage(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Flip, then shuffle, bend the grey values and paint; what is restored is flipped too."""
        chosen, count, shape = self.settings, len(images), _shape(images)
        images = flip(images, draw_flip(count, chosen.flip_rate, generator))
        damaged = shuffle(images, draw_shuffle(count, shape, chosen.shuffle_rate, generator, chosen.shuffle_largest))
        damaged = change_intensity(damaged, draw_intensity(count, chosen.intensity_rate, generator, chosen.falling))
        inner, outer = (
            draw_inpaint(count, shape, 1.0, generator, smallest=smallest, largest=largest, most=chosen.most_boxes)
            for smallest, largest in (
                (chosen.inner_smallest, chosen.inner_largest),
                (chosen.outer_smallest, chosen.outer_largest),
            )
        )
        painted = happens(count, chosen.paint_rate, generator)
        erased = torch.where(happens(count, chosen.inner_share, generator), inner.erased, ~outer.erased) & painted
        return inpaint(damaged, InpaintDraw(erased, inner.noise)), images


def _check_boxes(smallest: float, largest: float, most: int) -> None:
    if not 0 < smallest <= largest <= 1:
        raise ValueError(f"boxes are {smallest:g} to {largest:g} of a side: give 0 < smallest <= largest <= 1")
    if most < 1:
        raise ValueError(f"most_boxes is {most}: give 1 or more")


def _shape(images: Tensor) -> tuple[int, int, int]:
    """(D, H, W) of a batch."""
    return images.shape[2], images.shape[3], images.shape[4]
