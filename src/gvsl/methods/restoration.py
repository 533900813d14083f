"""Denoising, in-painting and Models Genesis: restore a damaged volume. They differ only in the damage."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
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
from gvsl.augment.draw import bernoulli
from gvsl.backbones import Backbone
from gvsl.geometry import spatial_shape
from gvsl.heads import RestorationHead
from gvsl.methods.encoder import all_volumes, move
from gvsl.methods.method import LOSS, Method
from gvsl.records.metrics import LoggedMetric
from gvsl.settings.methods import BoxSettings as BoxSettings
from gvsl.settings.methods import DenoisingSettings as DenoisingSettings
from gvsl.settings.methods import InpaintingSettings as InpaintingSettings
from gvsl.settings.methods import ModelsGenesisSettings as ModelsGenesisSettings
from gvsl.types import PairBatch

RESTORATION_METRICS = (
    LoggedMetric("restoration", "Restoration error (MSE)", "lower"),
    LoggedMetric("restoration_identity", "Error of the damaged volume (MSE)"),
)


class Restoration(Method):
    """A backbone with a restoration head; a subclass defines the damage, and its settings have `spatial`."""

    logs = (LOSS, *RESTORATION_METRICS)
    by_volume = True
    compilable = True

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.restoration = RestorationHead(backbone.local_channels, backbone.in_channels)

    @abstractmethod
    def damage(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the damaged volumes and the targets of their restoration, (B, C, D, H, W) each."""

    def parts(self) -> dict[str, nn.Module]:
        """Return the backbone and the head."""
        return {"backbone": self.backbone, "restoration": self.restoration}

    def training_step(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the mean squared errors of the restored and of the damaged volumes."""
        damaged, original = self.damage(move(all_volumes(batch), self.settings.spatial, generator), generator)
        terms: dict[str, Tensor] = self(damaged, original)
        return terms

    def forward(self, damaged: Tensor, original: Tensor) -> dict[str, Tensor]:
        """Return the errors of damaged volumes and of their restoration: (B, C, D, H, W) both."""
        error = functional.mse_loss(self.restore(damaged).float(), original.float())
        untouched = functional.mse_loss(damaged.float(), original.float())
        return {"loss": error, "restoration": error.detach(), "restoration_identity": untouched}

    def restore(self, damaged: Tensor) -> Tensor:
        """Restore a batch of damaged volumes: (B, C, D, H, W)."""
        restored: Tensor = self.restoration(self.backbone(damaged).local)
        return restored

    @torch.no_grad()
    def held_out(self, volumes: Iterable[Tensor], generator: torch.Generator) -> dict[str, float]:
        """Return both errors, with each volume damaged once."""
        return restoration_errors(self.restore, (self.damage(volume[None], generator) for volume in volumes))


class Denoising(Restoration):
    """Remove Gaussian noise from a volume.

    Reference: P. Vincent, H. Larochelle, I. Lajoie, Y. Bengio and P.-A. Manzagol. Stacked Denoising Autoencoders:
    Learning Useful Representations in a Deep Network with a Local Denoising Criterion. JMLR 11, 2010.
    https://jmlr.org/papers/v11/vincent10a.html

    Raises:
        ValueError: `sigma` is not positive.

    >>> from gvsl.backbones import UNet3D
    >>> Denoising(UNet3D(width=8)).restore(torch.rand(1, 1, 16, 16, 16)).shape
    torch.Size([1, 1, 16, 16, 16])
    """

    def __init__(self, backbone: Backbone, settings: DenoisingSettings | None = None) -> None:
        super().__init__(backbone)
        self.settings = settings = settings or DenoisingSettings()
        if not settings.sigma > 0:
            raise ValueError(f"sigma is {settings.sigma:g}: give more than 0, such as 0.1")

    def damage(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Add noise."""
        noise = draw_noise(len(images), spatial_shape(images), self.settings.sigma, generator, images.shape[1])
        return add_noise(images, noise), images


class Inpainting(Restoration):
    """Fill in boxes that were erased from a volume.

    Reference: D. Pathak, P. Krähenbühl, J. Donahue, T. Darrell and A. A. Efros. Context Encoders: Feature Learning by
    Inpainting. CVPR 2016. https://arxiv.org/abs/1604.07379

    Raises:
        ValueError: the boxes can't be drawn.

    >>> from gvsl.backbones import UNet3D
    >>> image = torch.zeros(1, 1, 16, 16, 16)
    >>> damaged, original = Inpainting(UNet3D(width=8)).damage(image, torch.Generator().manual_seed(0))
    >>> bool((damaged != original).any())
    True
    """

    def __init__(self, backbone: Backbone, settings: InpaintingSettings | None = None) -> None:
        super().__init__(backbone)
        self.settings = settings = settings or InpaintingSettings()
        check_boxes(settings.smallest, settings.largest, settings.most_boxes)

    def damage(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Erase boxes, filling them with uniform noise."""
        return erase_boxes(images, self.settings, generator), images


class ModelsGenesis(Restoration):
    """Undo shuffling, an intensity curve, and in- or out-painting.

    Reference: Z. Zhou, V. Sodha, M. M. Rahman Siddiquee, R. Feng, N. Tajbakhsh, M. B. Gotway and J. Liang. Models
    Genesis: Generic Autodidactic Models for 3D Medical Image Analysis. MICCAI 2019. https://arxiv.org/abs/1908.06912

    Raises:
        ValueError: the boxes can't be drawn.

    >>> from gvsl.backbones import UNet3D
    >>> image = torch.rand(1, 1, 16, 16, 16)
    >>> damaged, original = ModelsGenesis(UNet3D(width=8)).damage(image, torch.Generator().manual_seed(0))
    >>> damaged.shape == original.shape == image.shape
    True
    """

    def __init__(self, backbone: Backbone, settings: ModelsGenesisSettings | None = None) -> None:
        super().__init__(backbone)
        self.settings = settings = settings or ModelsGenesisSettings()
        check_boxes(settings.inner_smallest, settings.inner_largest, settings.most_boxes)
        check_boxes(settings.outer_smallest, settings.outer_largest, settings.most_boxes)

    def damage(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Flip, then shuffle, apply an intensity curve and paint; the target is flipped too."""
        chosen, count, shape = self.settings, len(images), spatial_shape(images)
        images = flip(images, draw_flip(count, chosen.flip_rate, generator))
        damaged = shuffle(images, draw_shuffle(count, shape, chosen.shuffle_rate, generator, chosen.shuffle_largest))
        curves = draw_intensity(count, chosen.intensity_rate, generator, chosen.falling, images.shape[1])
        damaged = change_intensity(damaged, curves)
        inner, outer = (
            draw_inpaint(count, shape, 1.0, generator, sides, chosen.most_boxes)
            for sides in (
                (chosen.inner_smallest, chosen.inner_largest),
                (chosen.outer_smallest, chosen.outer_largest),
            )
        )
        painted = bernoulli(count, chosen.paint_rate, generator)
        erased = torch.where(bernoulli(count, chosen.inner_share, generator), inner.erased, ~outer.erased) & painted
        return inpaint(damaged, InpaintDraw(erased, inner.noise)), images


def restoration_errors(
    restore: Callable[[Tensor], Tensor], volumes: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, float]:
    """Return the mean squared errors of restored and of damaged volumes, averaged over (damaged, original) pairs.

    >>> restoration_errors(torch.zeros_like, [(torch.ones(2), torch.zeros(2))])
    {'restoration': 0.0, 'restoration_identity': 1.0}
    """
    errors = [
        [float(functional.mse_loss(image, original)) for image in (restore(damaged), damaged)]
        for damaged, original in volumes
    ]
    restored, untouched = (fmean(column) for column in zip(*errors, strict=True))
    return {"restoration": restored, "restoration_identity": untouched}


def erase_boxes(images: Tensor, boxes: BoxSettings | InpaintingSettings, generator: torch.Generator) -> Tensor:
    """Fill random boxes of every volume, (B, C, D, H, W), with uniform noise."""
    sides = (boxes.smallest, boxes.largest)
    return inpaint(images, draw_inpaint(len(images), spatial_shape(images), 1.0, generator, sides, boxes.most_boxes))


def check_boxes(smallest: float, largest: float, most: int) -> None:
    """Check that boxes can be drawn.

    Args:
        smallest: minimum side, as a fraction of the volume's.
        largest: maximum side, likewise.
        most: maximum number of boxes.

    Raises:
        ValueError: they can't; the message says what to give.
    """
    if not 0 < smallest <= largest <= 1:
        raise ValueError(f"boxes are {smallest:g} to {largest:g} of a side: give 0 < smallest <= largest <= 1")
    if most < 1:
        raise ValueError(f"most_boxes is {most}: give 1 or more")
