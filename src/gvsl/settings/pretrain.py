"""Settings of a pre-training run; the defaults of optimiser and steps are the paper's (Section 4.1)."""

from dataclasses import dataclass, field
from typing import Any, Literal

from gvsl.errors import UserError
from gvsl.settings import ARM, NOTHING, Loggers, check_settings, choices_of
from gvsl.settings.backbones import BackboneSettings
from gvsl.settings.data import DataSettings
from gvsl.text import one_of

LESS = "give a smaller data.crop, data.batch_size or backbone.width, or end other programs"
"""What to do when memory runs out."""


@dataclass(frozen=True)
class OptimiserSettings:
    """Adam and its learning rate.

    Raises:
        UserError: a value is out of its range.
    """

    learning_rate: float = 1e-4
    """Learning rate of Adam (Section 4.1: 1e-4)."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Schedule of the learning rate: constant (the paper), or decayed to 0 along a half cosine."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly from 0."""
    clip_norm: float | None = None
    """Maximum norm of the gradients, clipped over all parameters; no limit if not given (the paper)."""

    def __post_init__(self) -> None:
        check_settings(self, "optimiser.", warmup_steps=0)
        if not self.learning_rate > 0:
            raise UserError(f"optimiser.learning_rate is {self.learning_rate}: give more than 0")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise UserError(f"optimiser.clip_norm is {self.clip_norm}: give more than 0, or leave it out for no limit")


@dataclass(frozen=True)
class TrainerSettings:
    """Length, precision and hardware of a run."""

    max_steps: int = 200_000
    """Number of optimiser steps (Section 4.1: 2 x 10^5)."""
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    """Number format of the forward and backward passes; losses, fields and weights are always float32. `auto` is bf16
    if the hardware supports it, else fp32."""
    device: Literal["auto", "cpu", "cuda"] = field(default="auto", metadata=NOTHING)
    """Device to compute on; `auto` uses a GPU if there is one, else the CPU."""
    devices: int = 1
    """Number of GPUs, or of processes on a CPU, per machine; each gets its own `data.batch_size` pairs at every
    step."""
    nodes: int = 1
    """Number of machines; torchrun or srun must have started this command `devices` times on each."""
    compile: bool = False
    """Compile networks and losses, forward and backward, with torch.compile; takes minutes before the first step."""
    checkpoint_every: int = field(default=1000, metadata=NOTHING)
    """Steps between two checkpoints for --resume."""
    log_every: int = field(default=50, metadata=NOTHING)
    """Steps between two writes of the logged values; the values of every step are kept."""
    loggers: Loggers | None = field(default=None, metadata=NOTHING)
    """Where the logged values go, besides curves.csv, which is always written: csv (nothing else), tensorboard, wandb,
    mlflow, or several of them; if not given, TensorBoard if it is installed."""

    def __post_init__(self) -> None:
        check_settings(self, "trainer.", max_steps=1, checkpoint_every=1, log_every=1, devices=1, nodes=1)
        for name in self.loggers or ():
            one_of(choices_of(Loggers), "logger", name)


@dataclass(frozen=True)
class PretrainSettings:
    """Settings of a pre-training run.

    Raises:
        UserError: a value is out of its range.
    """

    seed: int = field(default=0, metadata=ARM)
    """Seed of the initial weights, the pairs and their augmentation."""
    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    """Network to pre-train."""
    data: DataSettings = field(default_factory=DataSettings)
    """Pairs of volumes to train on."""
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    """Adam and its learning rate."""
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    """Length, precision and hardware."""
    pretext: Any = None
    """Settings of the method; its defaults if not given."""

    def __post_init__(self) -> None:
        check_settings(self, seed=0)
        if self.backbone.width < 8 or self.backbone.width % 8:
            raise UserError(f"backbone.width is {self.backbone.width}: give a multiple of 8")
