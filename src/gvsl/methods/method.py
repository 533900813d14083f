"""What training asks of a method; it declares, and does nothing."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from gvsl.backbones import UNet3D
from gvsl.types import PairBatch


class Method(nn.Module):
    """A backbone, the heads of a pretext, and one training step."""

    backbone: UNet3D
    """What is kept after pre-training."""
    settings: Any
    """The method's own settings dataclass."""

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
