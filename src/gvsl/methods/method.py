"""What training asks of a method; it declares, and does next to nothing."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gvsl.backbones import UNet3D
from gvsl.types import PairBatch


class Method(nn.Module):
    """A backbone, the heads of a pretext, and one training step.

    Every method sees the same pairs: one that learns from single volumes takes both of each pair. What has
    `requires_grad` is trained, nothing else.
    """

    learns: ClassVar[tuple[str, ...]] = ("encoder", "decoder")
    """The parts of the backbone that the pretext trains; the others stay at their initialisation."""
    judges_others: ClassVar[bool] = True
    """Whether a step makes sense on volumes that it wasn't trained on, so that it can be measured on held-out ones."""
    settings: Any
    """The method's own settings dataclass."""
    backbone: UNet3D
    """What is kept after pre-training."""

    @abstractmethod
    def parts(self) -> dict[str, nn.Module]:
        """The parts whose gradients are watched, by name."""

    @abstractmethod
    def training_step(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Scalars: `loss` to minimise, and what there is to log.

        Args:
            batch: pairs of volumes of different subjects, in [0, 1].
            generator: where all randomness comes from, on the batch's device.
        """

    def check(self, volumes: int, crop: tuple[int, int, int]) -> None:
        """Refuse, before the first step, a run that can't work.

        Args:
            volumes: how many there are to learn from.
            crop: (D, H, W) of each.

        Raises:
            ValueError: it can't; the message has the number that would do.
        """

    def after_step(self, step: int, max_steps: int) -> None:
        """What follows the optimiser's step: a target network that moves on, say."""

    def reassigns(self, step: int, volumes: int, batch_size: int) -> bool:
        """Whether `reassign` is due before this step."""
        return False

    def reassign(self, volumes: Iterable[tuple[list[str], Tensor]], generator: torch.Generator) -> dict[str, Tensor]:
        """Make new targets from all volumes, and say what there is to log.

        Args:
            volumes: batches of ids and volumes, (B, C, D, H, W), each volume once.
            generator: where all randomness comes from.
        """
        return {}


def train_encoder_only(backbone: UNet3D) -> None:
    """Leave the decoder at its initialisation: the global methods train the encoder (Section 4.1)."""
    backbone.decoder.requires_grad_(False)


def both_volumes(batch: PairBatch) -> Tensor:
    """The volumes of a batch of pairs, all of them: (2 * B, C, D, H, W)."""
    return torch.cat([batch.moving, batch.fixed])


def pooled(backbone: UNet3D, volumes: Tensor) -> Tensor:
    """The mean of the global features, float32: (B, C, D, H, W) to (B, 16 * width)."""
    return backbone.encode(volumes).float().mean(dim=(2, 3, 4))
