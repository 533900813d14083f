"""Rotation: classify which of ten rotations was applied to a volume."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from gvsl.augment import ROTATIONS, draw_rotation, rotate
from gvsl.backbones import Backbone
from gvsl.methods.encoder import EncoderMethod, all_volumes, global_features, in_float32, move
from gvsl.methods.method import LOSS
from gvsl.records.metrics import LoggedMetric
from gvsl.settings.methods import RotationSettings as RotationSettings
from gvsl.types import PairBatch


class Rotation(EncoderMethod):
    """Classify the rotation applied to a volume: none, or 90, 180 or 270 degrees about one axis.

    Reference: S. Gidaris, P. Singh and N. Komodakis. Unsupervised Representation Learning by Predicting Image
    Rotations. ICLR 2018. https://arxiv.org/abs/1803.07728

    >>> from gvsl.backbones import UNet3D
    >>> Rotation(UNet3D(width=8)).classify(torch.rand(2, 1, 16, 16, 16)).shape
    torch.Size([2, 10])
    """

    cubic = True
    by_volume = True
    heads = ("classifier",)
    logs = (LOSS, LoggedMetric("accuracy", "Rotation accuracy", "higher"))

    def __init__(self, backbone: Backbone, settings: RotationSettings | None = None) -> None:
        super().__init__(backbone)
        self.settings = settings or RotationSettings()
        self.classifier = nn.Linear(backbone.global_channels, len(ROTATIONS))

    def check(self, crop: tuple[int, int, int], volumes: int) -> None:
        """Check that crops are cubes, whose shape a quarter turn preserves."""
        if len(set(crop)) > 1:
            side = min(crop)
            raise ValueError(f"the crop {list(crop)} is not a cube: give --data.crop [{side}, {side}, {side}]")

    def training_step(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the cross entropy of one random rotation of each volume."""
        images = move(all_volumes(batch), self.settings.spatial, generator)
        targets = draw_rotation(len(images), generator)
        logits = self.classify(rotate(images, targets))
        targets = targets.to(images.device, non_blocking=True)
        accuracy = (logits.detach().argmax(dim=1) == targets).float().mean()
        return {"loss": functional.cross_entropy(logits, targets), "accuracy": accuracy}

    def classify(self, images: Tensor) -> Tensor:
        """Return the logits of the ten rotations: (B, C, D, D, D) to (B, 10)."""
        return in_float32(self.classifier, global_features(self.backbone, images))

    @torch.no_grad()
    def held_out(self, volumes: Iterable[Tensor], generator: torch.Generator) -> dict[str, float]:
        """Return the accuracy over all ten rotations of each volume; the chance level is 0.1."""
        correct = total = 0
        for volume in volumes:
            targets = torch.arange(len(ROTATIONS), device=volume.device)
            images = rotate(volume.expand(len(ROTATIONS), *volume.shape), targets)
            correct += int((self.classify(images).argmax(dim=1) == targets).sum())
            total += len(targets)
        return {"accuracy": correct / total}
