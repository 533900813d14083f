"""Tell ten rotations of a volume apart."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from gvsl.augment import ROTATIONS, draw_rotation, rotate
from gvsl.backbones import UNet3D
from gvsl.methods.encoder import all_volumes, global_features, in_float32, leave_decoder
from gvsl.methods.method import LOSS, Method
from gvsl.records.metrics import LoggedMetric
from gvsl.types import PairBatch


@dataclass(frozen=True)
class RotationSettings:
    """The pretext has nothing to choose."""


class Rotation(Method):
    """Tell ten rotations of a volume apart: none, and 90, 180 and 270 degrees about each axis."""

    pretrained = ("encoder",)
    cubic = True
    logs = (LOSS, LoggedMetric("accuracy", "Rotation accuracy", "higher"))

    def __init__(self, backbone: UNet3D, settings: RotationSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or RotationSettings()
        self.backbone = backbone
        leave_decoder(backbone)
        self.classifier = nn.Linear(16 * backbone.width, len(ROTATIONS))

    def parts(self) -> dict[str, nn.Module]:
        """The parts that are trained."""
        return {"encoder": self.backbone.encoder, "classifier": self.classifier}

    def check(self, crop: tuple[int, int, int], volumes: int) -> None:
        """Refuse crops that are no cubes, which a quarter turn would give another shape."""
        if len(set(crop)) > 1:
            side = min(crop)
            raise ValueError(f"the crop {list(crop)} is no cube: give --data.crop [{side}, {side}, {side}]")

    def training_step(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """The cross entropy of one drawn rotation of each volume."""
        images = all_volumes(batch)
        turned = draw_rotation(len(images), generator)
        logits = self.classify(rotate(images, turned))
        right = (logits.detach().argmax(dim=1) == turned).float().mean()
        return {"loss": functional.cross_entropy(logits, turned), "accuracy": right}

    def classify(self, images: Tensor) -> Tensor:
        """The logits of the ten rotations: (B, C, D, D, D) to (B, 10)."""
        return in_float32(self.classifier, global_features(self.backbone, images))

    @torch.no_grad()
    def held_out(self, volumes: Iterable[Tensor], generator: torch.Generator) -> dict[str, float]:
        """The accuracy over all ten rotations of each volume; chance is 0.1."""
        right = total = 0
        for volume in volumes:
            turned = torch.arange(len(ROTATIONS), device=volume.device)
            images = rotate(volume.expand(len(ROTATIONS), *volume.shape), turned)
            right += int((self.classify(images).argmax(dim=1) == turned).sum())
            total += len(turned)
        return {"accuracy": right / total}
