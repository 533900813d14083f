"""Validation during training: the loss curve, the best weights so far, and their state for a checkpoint."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from gvsl.backbones.tensor_file import all_finite
from gvsl.errors import DivergedError
from gvsl.settings.transfer import TransferSettings
from gvsl.transfer.networks import AdaptedNetwork

MIN_GAIN = 1e-4
"""Gain of the validation score that counts as improvement for `patience`."""
EMA_WARMUP = 9
"""After n steps the moving average reaches back n / EMA_WARMUP steps at most, so that it forgets the random start."""
TensorGroups = dict[str, dict[str, Tensor]]
"""Tensors by group and name, as a checkpoint stores them."""


@dataclass(frozen=True)
class Candidate:
    """One of several learning rates that were tried."""

    learning_rate: float
    best_score: float | None
    """The best validation score; None if the loss diverged."""
    best_step: int
    steps: int
    """Number of steps that were taken."""
    stopped_by: Literal["max_steps", "patience"] | None = None
    """The setting that ended the training; None if the loss diverged."""


@dataclass
class FitResult:
    """The best validation score and the curves of a training."""

    best_step: int = 0
    best_score: float = -math.inf
    rows: list[dict[str, float]] = field(default_factory=list)
    """One row a logged step: `step`, `loss` and, where it was measured, the validation score, such as `val_dice`."""
    stopped_by: Literal["max_steps", "patience"] = "max_steps"
    """The setting that ended the training."""

    @property
    def steps(self) -> int:
        """Number of steps that were taken."""
        return int(self.rows[-1]["step"]) if self.rows else 0

    candidates: list[Candidate] = field(default_factory=list)
    """The learning rates that were tried, if several."""

    def validated(self, column: str) -> tuple[list[float], list[float]]:
        """Return the steps at which the validation score was measured, and the scores."""
        rows = [row for row in self.rows if column in row]
        return [row["step"] for row in rows], [row[column] for row in rows]


class TrainingMonitor:
    """Log the loss, validate, and keep the weights with the best validation score; the first of equal ones.

    Without validation the weights of the last step are kept.
    """

    def __init__(
        self,
        network: AdaptedNetwork,
        validate: Callable[[], float] | None,
        settings: TransferSettings,
        column: str = "val_dice",
    ) -> None:
        """Start with no score.

        Args:
            network: to train.
            validate: scores the network as it is, higher is better; called in eval mode and without gradients. None if
                there is nothing to validate on.
            settings: number of steps and validation interval.
            column: name of the validation score in the curves.
        """
        self.network, self.validate, self.settings, self.column = network, validate, settings, column
        self.trained = network.trained
        self.result = FitResult()
        self.best: dict[str, Tensor] = deepcopy(self.trained.state_dict())
        self.average: dict[str, Tensor] | None = deepcopy(self.trained.state_dict()) if settings.ema_decay else None
        """The exponential moving average of the weights, if the settings ask for one."""
        self.losses: list[Tensor] = []
        """Losses since the last row, scalars."""

    def validates(self, step: int) -> bool:
        """Return True if the network is validated after this step."""
        return step == self.settings.max_steps or step % self.settings.validate_every == 0

    @property
    def settled(self) -> bool:
        """True once `patience` validations in a row have brought no improvement."""
        if self.settings.patience is None:
            return False
        reference, still = -math.inf, 0
        for score in self.result.validated(self.column)[1]:
            still = 0 if score > reference + MIN_GAIN else still + 1
            reference = score if still == 0 else reference
        return still >= self.settings.patience

    @torch.no_grad()
    def update_average(self, step: int) -> None:
        """Move the average towards the weights after a step, counted from 1."""
        if self.average is None:
            return
        decay = min(self.settings.ema_decay, step / (step + EMA_WARMUP))
        for name, value in self.trained.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:  # a counter
                self.average[name].copy_(value)

    @contextmanager
    def _averaged(self) -> Iterator[Mapping[str, Tensor]]:
        """Give the network the averaged weights for a while, if there are any; yields those that it has."""
        if self.average is None:
            yield self.trained.state_dict()
            return
        latest = deepcopy(self.trained.state_dict())
        self.trained.load_state_dict(self.average)
        try:
            yield self.average
        finally:
            self.trained.load_state_dict(latest)

    def log(self, step: int) -> None:
        """Add a row with the mean loss since the last one, and the validation score if due.

        Raises:
            DivergedError: the loss, or a weight when the network is validated, is not finite.
        """
        loss = float(torch.stack(self.losses).mean())
        self.losses.clear()
        if not math.isfinite(loss):
            raise DivergedError(f"the loss is no longer a number at step {step}: give a lower learning_rate")
        row = {"step": float(step), "loss": loss}
        if self.validates(step):
            with self._averaged() as weights:
                if not all_finite(weights.values()):
                    raise DivergedError(f"the weights are no longer numbers at step {step}: give a lower learning_rate")
                if self.validate is not None:
                    self.network.eval()
                    with torch.no_grad():
                        row[self.column] = self.validate()
                    self.network.train()
                if self.validate is None or row[self.column] > self.result.best_score:
                    self.result.best_step = step
                    self.result.best_score = row.get(self.column, -math.inf)
                    self.best = deepcopy(dict(weights))
        self.result.rows.append(row)

    def finish(self) -> FitResult:
        """Load the best weights into the network, and leave it in eval mode."""
        if self.settled and self.result.steps < self.settings.max_steps:
            self.result.stopped_by = "patience"
        self.trained.load_state_dict(self.best)
        self.network.eval()
        return self.result

    def export_state(self) -> tuple[TensorGroups, dict[str, Any]]:
        """Return the state that training depends on: tensors, and JSON values."""
        tensors: TensorGroups = {"network": self.trained.state_dict(), "best": self.best}
        if self.average is not None:
            tensors["average"] = self.average
        if self.losses:
            tensors["since"] = {"losses": torch.stack(self.losses)}
        best = self.result.best_score
        values = {
            "best_step": self.result.best_step,
            "best_score": best if math.isfinite(best) else None,
            "rows": self.result.rows,
        }
        return tensors, values

    def import_state(self, tensors: Mapping[str, Mapping[str, Tensor]], values: Mapping[str, Any]) -> None:
        """Restore what `export_state` returned.

        Raises:
            KeyError, RuntimeError, TypeError, ValueError, AttributeError: it does not fit the network.
        """
        self.trained.load_state_dict(tensors["network"])
        device = next(self.network.parameters()).device
        self.best = {key: value.to(device) for key, value in tensors["best"].items()}
        if self.average is not None:
            self.average = {key: value.to(device) for key, value in tensors["average"].items()}
        self.losses = list(tensors["since"]["losses"].to(device).unbind()) if "since" in tensors else []
        best = values["best_score"]
        self.result.best_score = -math.inf if best is None else float(best)
        self.result.best_step = int(values["best_step"])
        self.result.rows = [dict(row) for row in values["rows"]]
