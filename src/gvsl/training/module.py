"""The Lightning module of a method: its step, optimiser and logged values."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from gvsl.augment.draw import ShareGenerator
from gvsl.methods import Method
from gvsl.settings.pretrain import OptimiserSettings
from gvsl.types import PairBatch

GENERATOR_STRIDE = 1_000_003**2
"""Distance of the random streams of neighbouring seeds, so large that their steps do not meet."""
GENERATOR_SEEDS = 2**63
"""Upper bound of a generator's seed."""


@dataclass(frozen=True)
class Epoch:
    """When and how a method processes the whole split (`Method.start_epoch`)."""

    steps: int
    """Steps between two passes over the split; together they show at least as many volumes as it has."""
    volumes: Callable[[int, int], Iterable[tuple[str, Tensor]]]
    """Returns ids and images of a process's shard of the split, for its rank and the number of processes."""


class PretrainModule(lightning.LightningModule):
    """Trains a `gvsl.methods.Method`."""

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
        """The last step's values to log, scalars on the device."""

    def training_step(self, batch: PairBatch, _: int) -> Tensor:
        """Run the method's step, its random numbers a function of seed, step and place in the step's batch."""
        generator = self._generator(self.global_step, len(batch.moving))
        epoch_values = self._start_epoch() if self.epoch and self.global_step % self.epoch.steps == 0 else {}
        batch = batch._replace(moving=channels_last(batch.moving), fixed=channels_last(batch.fixed))
        terms = self.method.training_step(batch, generator)
        self.latest = {name: value.detach() for name, value in (epoch_values | terms).items()}
        return terms["loss"]

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        """Step, and update the method before any checkpoint is written."""
        step = self.global_step
        super().optimizer_step(*arguments, **named)
        self.method.after_step(step, self.max_steps)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save what the method needs besides its weights."""
        checkpoint["method_state"] = self.method.state_to_resume()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what the method needs besides its weights."""
        if checkpoint.get("method_state"):
            self.method.resume(checkpoint["method_state"])

    def _start_epoch(self) -> dict[str, Tensor]:
        """Let the method process the split, and reset the optimiser's state of parameters that it reinitialised."""
        assert self.epoch is not None
        volumes = self.epoch.volumes(self.global_rank, self.trainer.world_size)
        on_device = ((case, image.to(self.device)) for case, image in volumes)
        # The same stream in every process, distinct from those of the steps.
        generator = self._generator(GENERATOR_STRIDE - 1 - self.global_step // self.epoch.steps)
        values = self.method.start_epoch(on_device, generator)
        optimiser = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimiser, torch.optim.Optimizer)
        for parameter in self.method.reinitialised():
            optimiser.state.pop(parameter, None)
        return values

    def _generator(self, stream: int, volumes: int | None = None) -> torch.Generator:
        """Return a generator, alike in all processes; with a number of volumes, it draws for those of this process."""
        world = self.trainer.world_size
        if volumes is None or world == 1:
            generator = torch.Generator(self.device)
        else:
            generator = ShareGenerator(self.device, self.global_rank, world, volumes)
        generator.manual_seed((self.seed * GENERATOR_STRIDE + stream) % GENERATOR_SEEDS)
        return generator

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the norm of each part's gradient."""
        for name, part in self.method.parts().items():
            gradients = [parameter.grad for parameter in part.parameters() if parameter.grad is not None]
            norms = torch._foreach_norm(gradients)
            self.latest[f"gradient_norm_{name}"] = torch.stack(norms).norm()

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm of all gradients, which in bf16 Lightning refuses with a fused optimiser, though it needn't."""
        if gradient_clip_val is not None:
            torch.nn.utils.clip_grad_norm_(self.method.parameters(), gradient_clip_val)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return Adam with the settings' learning-rate schedule."""
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
    """Return the volumes with channels innermost in memory, for faster 3D convolutions."""
    return volumes.contiguous(memory_format=torch.channels_last_3d)
