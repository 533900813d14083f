"""What a pre-training run can be told; the defaults are the paper's (Section 4.1)."""

from dataclasses import dataclass, field
from typing import Any, Literal

from gvsl.backbones import UNet3DSettings
from gvsl.data import DataSettings
from gvsl.errors import UserError
from gvsl.settings import ARM, NOTHING


@dataclass(frozen=True)
class OptimiserSettings:
    """Adam and its learning rate."""

    learning_rate: float = 1e-4
    """Of Adam (Section 4.1: 1e-4)."""
    schedule: Literal["constant", "cosine"] = "constant"
    """How the learning rate goes on: as it is (the paper), or down to 0 along a half cosine."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises from 0."""
    clip_norm: float | None = None
    """Greatest norm of all gradients together; larger ones are scaled down. Not limited if not given (the paper)."""


@dataclass(frozen=True)
class TrainerSettings:
    """How long, and on what, a run goes on."""

    max_steps: int = 200_000
    """Optimiser steps (Section 4.1: 2 x 10^5)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Number format of the passes; losses, fields and weights are always float32."""
    device: Literal["auto", "cpu", "cuda"] = field(default="auto", metadata=NOTHING)
    """Where to compute."""
    devices: int = 1
    """GPUs, or processes on a CPU; `data.batch_size` pairs each, of which no two see the same in a step or an epoch."""
    compile: bool = False
    """Compile the backbone: slow to start, faster a step on most GPUs."""
    checkpoint_every: int = field(default=1000, metadata=NOTHING)
    """Steps between two checkpoints, from which --resume goes on."""
    log_every: int = field(default=50, metadata=NOTHING)
    """Steps between two writes of the logged values; every step's are kept."""


@dataclass(frozen=True)
class PretrainSettings:
    """One pre-training run."""

    seed: int = field(default=0, metadata=ARM)
    """Decides the first weights, the pairs and their augmentation."""
    backbone: UNet3DSettings = field(default_factory=UNet3DSettings)
    """The network that is pre-trained."""
    data: DataSettings = field(default_factory=DataSettings)
    """The pairs that it is shown."""
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    """How its weights are changed."""
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    """How long, and on what."""
    pretext: Any = None
    """The method's own settings; its defaults if not given."""

    def __post_init__(self) -> None:
        for name, value in {
            "trainer.max_steps": self.trainer.max_steps,
            "trainer.checkpoint_every": self.trainer.checkpoint_every,
            "trainer.log_every": self.trainer.log_every,
            "trainer.devices": self.trainer.devices,
        }.items():
            if value < 1:
                raise UserError(f"{name} is {value}: give 1 or more")
        if not self.optimiser.learning_rate > 0:
            raise UserError(f"optimiser.learning_rate is {self.optimiser.learning_rate}: give more than 0")
        if self.seed < 0:
            raise UserError(f"seed is {self.seed}: give 0 or more")
        if self.backbone.width < 8 or self.backbone.width % 8:
            raise UserError(f"backbone.width is {self.backbone.width}: give a multiple of 8")
