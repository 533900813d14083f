"""What training asks of a method; it declares, and does nothing."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from gvsl.backbones import UNet3D
from gvsl.records.metrics import LoggedMetric
from gvsl.types import PairBatch

LOSS = LoggedMetric("loss", "Total loss", "lower")


class Method(nn.Module):
    """A backbone, the heads of a pretext, and one training step."""

    backbone: UNet3D
    """What is kept after pre-training."""
    settings: Any
    """The method's own settings dataclass."""
    logs: tuple[LoggedMetric, ...] = ()
    """Every scalar that `training_step`, `start_epoch` and `held_out` return."""
    pretrained: tuple[str, ...] = ("encoder", "decoder")
    """The parts of the backbone that the pretext trains; the others stay as they were initialised."""
    cubic: bool = False
    """Whether it needs crops whose sides are equal; a crop that nobody gave is then chosen so."""
    least_epoch: int | None = None
    """Least steps between two calls of `start_epoch`, each a pass over the split; never called where there is none."""

    @abstractmethod
    def parts(self) -> dict[str, nn.Module]:
        """The parts that are trained, whose gradients are watched, by name."""

    @abstractmethod
    def training_step(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Scalars: `loss` to minimise, and what there is to log.

        Args:
            batch: pairs of volumes of different subjects, in [0, 1].
            generator: where all randomness comes from, on the batch's device.
        """

    def check(self, crop: tuple[int, int, int], volumes: int) -> None:
        """Refuse, before anything is written, data that the method can't learn from.

        Args:
            crop: (D, H, W) of the volumes.
            volumes: how many the split holds.

        Raises:
            ValueError: with the number that would do.
        """

    def start_epoch(self, volumes: Iterable[tuple[str, Tensor]], generator: torch.Generator) -> dict[str, Tensor]:
        """Look at the whole split before the next pass over it; called where `least_epoch` is given.

        Args:
            volumes: id and image, (C, D, H, W), of this process's share of the split.
            generator: where all randomness comes from, the same in every process.

        Returns:
            scalars to log with the next step.
        """
        raise NotImplementedError

    def renewed(self) -> list[nn.Parameter]:
        """The parameters that `start_epoch` made anew, for which the optimiser must forget what it knew."""
        return []

    def after_step(self, step: int, max_steps: int) -> None:
        """Do what follows the optimiser's step.

        Args:
            step: the number of the step that was taken, from 0.
            max_steps: the steps of the whole run.
        """

    def state_to_resume(self) -> dict[str, Any]:
        """What a resumed run needs beside the weights: strings, numbers, lists and dicts."""
        return {}

    def resume(self, state: dict[str, Any]) -> None:
        """Take up what `state_to_resume` gave."""

    def held_out(self, volumes: Iterable[Tensor], generator: torch.Generator) -> dict[str, float]:
        """Figures of volumes that training never saw, (C, D, H, W) each; none where the pretext has none."""
        return {}
