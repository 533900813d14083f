"""A method as Lightning trains it: the step, the optimiser, and what is logged."""

import math

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from gvsl.methods import Method
from gvsl.training.settings import OptimiserSettings
from gvsl.types import PairBatch

GENERATOR_STRIDE = 1_000_003**2
"""Generators of runs with neighbouring seeds coincide only after this many steps and processes."""
GENERATOR_SEEDS = 2**63
"""A generator takes no larger seed."""


class PretrainModule(lightning.LightningModule):
    """Trains a method of `gvsl.methods`."""

    def __init__(self, method: Method, optimiser: OptimiserSettings, seed: int, max_steps: int) -> None:
        super().__init__()
        self.method = method
        self.optimiser_settings = optimiser
        self.seed = seed
        self.max_steps = max_steps
        self.latest: dict[str, Tensor] = {}
        """What the last step had to log, as scalars on the device."""

    def training_step(self, batch: PairBatch, _: int) -> Tensor:
        """Run the method's step with randomness that depends on seed, step and process alone."""
        generator = torch.Generator(self.device)
        stream = self.global_step * self.trainer.world_size + self.global_rank
        generator.manual_seed((self.seed * GENERATOR_STRIDE + stream) % GENERATOR_SEEDS)
        batch = batch._replace(moving=channels_last(batch.moving), fixed=channels_last(batch.fixed))
        terms = self.method.training_step(batch, generator)
        self.latest = {name: value.detach() for name, value in terms.items()}
        return terms["loss"]

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Keep the norm of each part's gradient."""
        for name, part in self.method.parts().items():
            gradients = [parameter.grad for parameter in part.parameters() if parameter.grad is not None]
            norms = torch._foreach_norm(gradients)
            self.latest[f"gradient_norm_{name}"] = torch.stack(norms).norm()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam with the schedule that was asked for."""
        settings = self.optimiser_settings
        optimiser = torch.optim.Adam(self.method.parameters(), lr=settings.learning_rate, fused=True)

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
