"""Rotation: tell by which of ten rotations a volume was turned (Komodakis & Gidaris 2018, in 3D)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from gvsl.augment import ROTATIONS, rotate
from gvsl.backbones import UNet3D
from gvsl.methods.method import Method, both_volumes, pooled, train_encoder_only
from gvsl.types import PairBatch


@dataclass(frozen=True)
class RotationSettings:
    """The pretext of rotation."""

    copies: int = 1
    """Rotations of each volume in a step, each drawn anew."""


class Rotation(Method):
    """Tell by which of ten rotations a volume was turned (Komodakis & Gidaris 2018)."""

    learns = ("encoder",)

    def __init__(self, backbone: UNet3D, settings: RotationSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or RotationSettings()
        if self.settings.copies < 1:
            raise ValueError(f"copies is {self.settings.copies}: give 1 or more")
        self.backbone = backbone
        train_encoder_only(backbone)
        self.classifier = nn.Linear(16 * backbone.width, ROTATIONS)

    def parts(self) -> dict[str, nn.Module]:
        """The parts whose gradients are watched, by name."""
        return {"backbone": self.backbone, "classifier": self.classifier}

    def check(self, volumes: int, crop: tuple[int, int, int]) -> None:
        """A box that isn't a cube would tell its rotation by its shape.

        Raises:
            ValueError: the crop is no cube.
        """
        if len(set(crop)) > 1:
            cube = [min(crop)] * 3
            raise ValueError(f"data.crop is {list(crop)}, but a box tells its rotation by its shape: give {cube}")

    def training_step(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Rotate both volumes of each pair and classify the rotation by cross-entropy."""
        volumes = both_volumes(batch).repeat(self.settings.copies, 1, 1, 1, 1)
        truth = torch.randint(ROTATIONS, (len(volumes),), generator=generator, device=generator.device)
        logits = self.classifier(pooled(self.backbone, rotate(volumes, truth))).float()
        loss = functional.cross_entropy(logits, truth)
        right = (logits.argmax(dim=1) == truth).float().mean()
        return {"loss": loss, "cross_entropy": loss.detach(), "accuracy": right}
