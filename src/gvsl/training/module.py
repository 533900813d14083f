"""A method as Lightning trains it: the step, the optimiser, and what is logged."""

import math
from collections.abc import Iterator
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from gvsl.data import PairStream, read_crop
from gvsl.methods import Method
from gvsl.training.settings import OptimiserSettings
from gvsl.types import PairBatch

GENERATOR_STRIDE = 1_000_003**2
"""Generators of runs with neighbouring seeds coincide only after this many steps and processes."""
GENERATOR_SEEDS = 2**63
"""A generator takes no larger seed."""


class PretrainModule(lightning.LightningModule):
    """Trains a method of `gvsl.methods` on the batches of a stream."""

    def __init__(
        self,
        method: Method,
        optimiser: OptimiserSettings,
        seed: int,
        max_steps: int,
        stream: PairStream | None = None,
    ) -> None:
        """Train `method`; one that reassigns needs the stream too, to look at all of its volumes."""
        super().__init__()
        self.method = method
        self.stream = stream
        self.optimiser_settings = optimiser
        self.seed = seed
        self.max_steps = max_steps
        self.latest: dict[str, Tensor] = {}
        """What the last step had to log, as scalars on the device."""
        self.assigned: dict[str, Tensor] = {}
        """What the last reassignment had to log."""

    def training_step(self, batch: PairBatch, _: int) -> Tensor:
        """Run the method's step with randomness that depends on seed, step and process alone."""
        generator = torch.Generator(self.device)
        stream = self.global_step * self.trainer.world_size + self.global_rank
        generator.manual_seed((self.seed * GENERATOR_STRIDE + stream) % GENERATOR_SEEDS)
        if self.stream is not None and self._is_due(self.stream):
            self.assigned = self.method.reassign(self._volumes(self.stream), generator)
        batch = batch._replace(moving=channels_last(batch.moving), fixed=channels_last(batch.fixed))
        terms = self.method.training_step(batch, generator) | self.assigned
        self.latest = {name: value.detach() for name, value in terms.items()}
        return terms["loss"]

    def _is_due(self, stream: PairStream) -> bool:
        return self.method.reassigns(self.global_step, len(stream.ids), stream.settings.batch_size)

    def _volumes(self, stream: PairStream) -> Iterator[tuple[list[str], Tensor]]:
        """Every volume once, on the device, one at a time."""
        for name in stream.ids:
            volume = read_crop(stream.store, name, stream.crop)[None]
            yield [name], channels_last(volume.to(self.device))

    def on_train_batch_end(self, outputs: Any, batch: PairBatch, batch_idx: int) -> None:
        """Let the method do what follows the optimiser's step, whose number counts it already."""
        self.method.after_step(self.global_step, self.max_steps)

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
