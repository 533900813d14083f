"""What a transfer run can be told (Appendix E.3)."""

from dataclasses import dataclass, field
from typing import Literal

from gvsl.errors import UserError
from gvsl.settings import ARM, EXTRAS, NOTHING

MODES = ("scratch", "linear", "finetune")


@dataclass(frozen=True)
class ClusterSettings:
    """How the frozen local features of each structure are drawn and looked at (Figure 7).

    Raises:
        UserError: a value is out of its range.
    """

    points: int = 1000
    """Voxels at most, all structures together, as many of each; 0 leaves it out."""
    cases: int = 20
    """Validation cases at most that they are drawn from."""
    neighbours: int = 10
    """That vote on a voxel's structure, none of them of its own case."""
    perplexity: float = 30.0
    """Of t-SNE: about how many neighbours a voxel has in the plane."""
    margin: int = 5
    """Voxels round a single structure from which background is drawn as the second group."""

    def __post_init__(self) -> None:
        for name, least in (("points", 0), ("cases", 1), ("neighbours", 1), ("margin", 1)):
            if getattr(self, name) < least:
                raise UserError(f"clusters.{name} is {getattr(self, name)}: give {least} or more")
        if not self.perplexity >= 1:
            raise UserError(f"clusters.perplexity is {self.perplexity}: give 1 or more")


@dataclass(frozen=True)
class TransferSettings:
    """How a backbone is put to use on labelled cases; the defaults are the paper's (Appendix E.3).

    Raises:
        UserError: a value is out of its range.
    """

    mode: Literal["scratch", "linear", "finetune"] = field(default="linear", metadata=ARM)
    """`linear`: a head on frozen features; `finetune`: all; `scratch`: all, from random weights."""
    seed: int = field(default=0, metadata=ARM)
    """Decides the labelled cases drawn, their order, the crops and every random weight."""
    allow_preprocessing_mismatch: bool = field(default=False, metadata=NOTHING)
    """Take weights that were trained on volumes prepared otherwise than the store's, such as CT's for MR; without it
    they are refused."""
    allow_leakage: bool = field(default=False, metadata=NOTHING)
    """Take weights that were learnt from images of the store's val or test split; without it they are refused."""
    kernel: int = 3
    """Side of the head's convolution, odd; 1 asks what each voxel's features tell by themselves (the paper has "a
    convolutional layer")."""
    labels: int | None = None
    """How many labelled training cases to draw with the seed, of a classification the classes in turn; all of them if
    not given."""
    optimiser: Literal["adam", "lbfgs"] = "adam"
    """`adam`, as the paper has it, or for `linear` alone `lbfgs`: all training windows at once on standardised
    features, which finds the head's optimum in tens of steps and has no learning rate to tune."""
    loss: Literal["dice", "dice_ce"] = "dice"
    """Soft Dice as the paper has it, or with cross-entropy added, which has no plateaus."""
    weight_penalty: float = 0.0
    """Times the sum of the head's squared weights, added to the loss of `lbfgs`."""
    learning_rate: float = 1e-4
    """Of Adam."""
    max_steps: int = 40_000
    """Optimiser steps; a step of `lbfgs` sees every training window."""
    batch_size: int = 1
    """Cases a step, their losses averaged; they may differ in size."""
    validate_every: int = 200
    """Steps between two scores on the validation split, by which the best weights are kept."""
    crop: tuple[int, int, int] = (128, 128, 128)
    """Voxels a side at most seen at once; a volume that fits is taken whole."""
    overlap: float = 0.5
    """Share of a window that its neighbour covers too, where a volume is larger than the crop."""
    width: int = 32
    """First-level channels of a backbone with random weights; loaded weights bring their own, and on the command line
    another one beside them is refused."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Number format of the backbone's passes; head and loss are always float32."""
    device: Literal["auto", "cpu", "cuda"] = field(default="auto", metadata=NOTHING)
    """Where to compute; `auto` takes a GPU if there is one."""
    cache_gigabytes: float = field(default=4.0, metadata=NOTHING)
    """Memory for frozen features (float16, on the CPU); what does not fit is computed anew at each use."""
    augmentation: Literal["none", "spatial", "intensity", "both"] = "none"
    """Random changes of the training cases: `spatial` moves image and label map, `intensity` bends the grey values;
    not for `linear`, whose features are computed once."""
    checkpoint_every: int = field(default=200, metadata=NOTHING)
    """Steps between two states that --resume can go on from, kept in RUN.part until RUN is there; 0 keeps none."""
    clusters: ClusterSettings = field(default_factory=ClusterSettings, metadata=EXTRAS)
    """Of `linear` segmentation: how the features cluster by structure; it decides nothing about the scores."""

    def __post_init__(self) -> None:
        choices = {
            "mode": MODES,
            "optimiser": ("adam", "lbfgs"),
            "loss": ("dice", "dice_ce"),
            "precision": ("fp32", "bf16"),
            "device": ("auto", "cpu", "cuda"),
            "augmentation": ("none", "spatial", "intensity", "both"),
        }
        for name, values in choices.items():
            if getattr(self, name) not in values:
                raise UserError(f"{name} {getattr(self, name)!r} does not exist: choose of {', '.join(values)}")
        for name in ("max_steps", "batch_size", "validate_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}: give 1 or more")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise UserError(f"kernel is {self.kernel}: give an odd number")
        if self.optimiser == "lbfgs" and self.mode != "linear":
            raise UserError(f"optimiser lbfgs trains a head on frozen features: not mode {self.mode}; give adam")
        if self.weight_penalty < 0:
            raise UserError(f"weight_penalty is {self.weight_penalty}: give 0 or more")
        if self.labels is not None and self.labels < 1:
            raise UserError(f"labels is {self.labels}: give 1 or more, or leave it out for all")
        if self.seed < 0:
            raise UserError(f"seed is {self.seed}: give 0 or more")
        if not self.learning_rate > 0:
            raise UserError(f"learning_rate is {self.learning_rate}: give more than 0")
        if min(self.crop) < 1:
            raise UserError(f"crop is {self.crop}: give three sides of 1 voxel or more")
        if not 0 <= self.overlap < 1:
            raise UserError(f"overlap is {self.overlap}: give 0 or more and less than 1")
        if self.width < 8 or self.width % 8:
            raise UserError(f"width is {self.width}: give a multiple of 8")
        if self.cache_gigabytes < 0:
            raise UserError(f"cache_gigabytes is {self.cache_gigabytes}: give 0 or more")
        if self.augmentation != "none" and self.mode == "linear":
            raise UserError(
                f"augmentation is {self.augmentation}, but mode linear computes its features once: "
                "give augmentation none, or mode finetune or scratch"
            )
        if self.checkpoint_every < 0:
            raise UserError(f"checkpoint_every is {self.checkpoint_every}: give 1 or more, or 0 to keep none")
