"""A method as Lightning trains it: the step, the optimiser, and what is logged."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from gvsl.methods import Method
from gvsl.training.pretrain_settings import OptimiserSettings
from gvsl.types import PairBatch

GENERATOR_STRIDE = 1_000_003**2
"""Generators of runs with neighbouring seeds coincide only after this many steps and processes."""
GENERATOR_SEEDS = 2**63
"""A generator takes no larger seed."""


@dataclass(frozen=True)
class Epoch:
    """What a method that wants to see the whole split from time to time is given."""

    steps: int
    """Steps between two looks: as many as show it as many volumes as the split has, or more."""
    volumes: Callable[[int, int], Iterable[tuple[str, Tensor]]]
    """Ids and images of a process's share, by its rank and the number of processes."""


class PretrainModule(lightning.LightningModule):
    """Trains a method of `gvsl.methods`."""

    def __init__(
        self,
        method: Method,
        optimiser: OptimiserSettings,
        seed: int,
        max_steps: int,
        epoch: Epoch | None = None,
    ) -> None:
        super().__init__()
        self.epoch = epoch
        self.method = method
        self.optimiser_settings = optimiser
        self.seed = seed
        self.max_steps = max_steps
        self.latest: dict[str, Tensor] = {}
        """What the last step had to log, as scalars on the device."""

    def training_step(self, batch: PairBatch, _: int) -> Tensor:
        """Run the method's step with randomness that depends on seed, step and process alone."""
        generator = self._generator(self.global_step * self.trainer.world_size + self.global_rank)
        figures = self._start_epoch() if self.epoch and self.global_step % self.epoch.steps == 0 else {}
        batch = batch._replace(moving=channels_last(batch.moving), fixed=channels_last(batch.fixed))
        terms = self.method.training_step(batch, generator)
        self.latest = {name: value.detach() for name, value in (figures | terms).items()}
        return terms["loss"]

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        """Step, and let the method do what follows, before any checkpoint is written."""
        step = self.global_step
        super().optimizer_step(*arguments, **named)
        self.method.after_step(step, self.max_steps)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the method needs beside its weights."""
        checkpoint["method_state"] = self.method.state_to_resume()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Give the method back what it needs beside its weights."""
        if checkpoint.get("method_state"):
            self.method.resume(checkpoint["method_state"])

    def _start_epoch(self) -> dict[str, Tensor]:
        """Show the method the split, and forget what the optimiser knew of the parameters that it made anew."""
        assert self.epoch is not None
        volumes = self.epoch.volumes(self.global_rank, self.trainer.world_size)
        on_device = ((case, image.to(self.device)) for case, image in volumes)
        # The same in every process, and none that a step draws from.
        generator = self._generator(GENERATOR_STRIDE - 1 - self.global_step // self.epoch.steps)
        figures = self.method.start_epoch(on_device, generator)
        optimiser = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimiser, torch.optim.Optimizer)
        for parameter in self.method.reinitialised():
            optimiser.state.pop(parameter, None)
        return figures

    def _generator(self, stream: int) -> torch.Generator:
        generator = torch.Generator(self.device)
        generator.manual_seed((self.seed * GENERATOR_STRIDE + stream) % GENERATOR_SEEDS)
        return generator

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Keep the norm of each part's gradient."""
        for name, part in self.method.parts().items():
            gradients = [parameter.grad for parameter in part.parameters() if parameter.grad is not None]
            norms = torch._foreach_norm(gradients)
            self.latest[f"gradient_norm_{name}"] = torch.stack(norms).norm()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam with the schedule that was asked for."""
        settings = self.optimiser_settings
        trained = [parameter for parameter in self.method.parameters() if parameter.requires_grad]
        optimiser = torch.optim.Adam(trained, lr=settings.learning_rate, fused=True)

        def factor(step: int) -> float:
            rising = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
            if settings.schedule == "constant":
                return rising
            return rising * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.max_steps)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def channels_last(volumes: Tensor) -> Tensor:
    """The same volumes with channels innermost, in which 3D convolutions are faster."""
    return volumes.contiguous(memory_format=torch.channels_last_3d)
