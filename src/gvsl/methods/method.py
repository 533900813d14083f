"""The interface between training and a method."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from gvsl.backbones import Backbone
from gvsl.records.metrics import LoggedMetric
from gvsl.types import PairBatch

LOSS = LoggedMetric("loss", "Total loss", "lower")


class Method(nn.Module):
    """A backbone with the heads of a pretext task, and one training step."""

    backbone: Backbone
    """The network that is kept after pre-training."""
    settings: Any
    """The method's settings, a frozen dataclass."""
    logs: tuple[LoggedMetric, ...] = ()
    """Every scalar that `training_step`, `start_epoch` and `held_out` may return."""
    labelled: tuple[str, ...] = ()
    """Ids of the labelled training cases whose labels it learns from too; a batch then has a pair of them."""
    pretrained: tuple[str, ...] = ("encoder", "decoder")
    """The parts of the backbone that the pretext trains; the others stay at their initialisation."""
    cubic: bool = False
    """True if the method requires cubic crops; the default crop is then a cube."""
    by_volume: bool = False
    """True if a batch's loss is a mean over its volumes or pairs, each on its own; so is then its gradient, however
    many processes share the batch."""
    compilable: bool = False
    """True if `training_step` only draws, and leaves networks and losses to `forward`, which `compile` compiles."""
    min_epoch_steps: int | None = None
    """Minimum number of steps between two calls of `start_epoch`; None if the method does not need them."""

    @abstractmethod
    def parts(self) -> dict[str, nn.Module]:
        """Return the trained parts, whose gradient norms are logged, by name."""

    @abstractmethod
    def training_step(self, batch: PairBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return scalars: `loss` to minimise, and the metrics to log.

        Args:
            batch: pairs of volumes of different subjects, in [0, 1].
            generator: source of all random numbers, on the batch's device.
        """

    def check(self, crop: tuple[int, int, int], volumes: int) -> None:
        """Check, before anything is written, that the method can learn from the data.

        Args:
            crop: (D, H, W) of the volumes.
            volumes: number of volumes in the split.

        Raises:
            ValueError: it cannot; the message has a number that would do.
        """

    def start_epoch(self, volumes: Iterable[tuple[str, Tensor]], generator: torch.Generator) -> dict[str, Tensor]:
        """Process the whole split before the next pass over it; only called if `min_epoch_steps` is set.

        Args:
            volumes: ids and images, (C, D, H, W), of this process's shard of the split.
            generator: source of all random numbers, in the same state in every process.

        Returns:
            Scalars to log with the next step.
        """
        raise NotImplementedError

    def reinitialised(self) -> list[nn.Parameter]:
        """Return the parameters that `start_epoch` reinitialises, whose optimiser state must be reset."""
        return []

    def after_step(self, step: int, max_steps: int) -> None:
        """Update the method after the optimiser's step.

        Args:
            step: index of the completed step, from 0.
            max_steps: number of steps of the whole run.
        """

    def state_to_resume(self) -> dict[str, Any]:
        """Return what a resumed run needs besides the weights: strings, numbers, lists and dicts."""
        return {}

    def resume(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_to_resume` returned."""

    def held_out(self, volumes: Iterable[Tensor], generator: torch.Generator) -> dict[str, float]:
        """Return the metrics of held-out volumes, (C, D, H, W) each; empty if the pretext has none."""
        return {}
