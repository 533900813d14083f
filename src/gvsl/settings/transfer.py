"""Settings of a transfer run; the defaults are the paper's (Appendix E.3), except for augmentation."""

from dataclasses import dataclass, field, replace
from typing import Literal

from gvsl.errors import UserError
from gvsl.settings import ARM, EXTRAS, NOTHING, Levels, check_ranges, check_settings
from gvsl.settings.augment import FRACTION, AcquisitionSettings, SpatialSettings
from gvsl.settings.backbones import NetworkSettings
from gvsl.settings.carrying import CarrySettings

SPATIAL = SpatialSettings(rate=0.8)
INTENSITY = AcquisitionSettings()
AXES = 3
MODES = ("scratch", "linear", "finetune", "carried")

LESS = "give a smaller crop, batch_size, cache_gigabytes or width, or end other programs"
"""What to do when memory runs out."""


@dataclass(frozen=True)
class ClusterSettings:
    """Clustering of frozen local features by structure, for Figure 7; linear segmentation only, no effect on scores.

    Raises:
        UserError: a value is out of its range.
    """

    points: int = 1000
    """Maximum number of voxels over all structures, the same number of each; 0 disables the figure."""
    cases: int = 20
    """Maximum number of validation cases that voxels are sampled from."""
    neighbours: int = 10
    """Nearest neighbours, from other cases, that vote on a voxel's structure."""
    perplexity: float = 30.0
    """Perplexity of t-SNE: roughly the number of neighbours of a voxel in the plane."""
    margin: int = 5
    """Voxels around a single structure from which background is sampled as the second group."""

    def __post_init__(self) -> None:
        check_settings(self, "clusters.", points=0, cases=1, neighbours=1, margin=1, perplexity=1)


@dataclass(frozen=True)
class AugmentSettings:
    """Augmentation of the training examples; no effect on validation, testing and prediction.

    Raises:
        UserError: a value is out of its range.
    """

    rate: float | None = None
    """Fraction of the examples that are augmented; 0 or `none` disables augmentation. If not given, 1, or 0 for mode
    `linear`, whose features are computed once."""
    spatial: SpatialSettings = SPATIAL
    """Rotation, scaling, translation, shear and elastic deformation of image and label map together."""
    intensity: AcquisitionSettings = INTENSITY
    """Changes of the image alone, as between scanners."""
    mirror: tuple[int, ...] = ()
    """Axes of the store's volumes (0, 1, 2) along each of which half of the examples are mirrored. Use them if the task
    doesn't distinguish sides, such as 0 (left and right) for a whole brain."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(self, "augment.", rate=FRACTION)
        self.spatial.check("augment.spatial.")
        self.intensity.check("augment.intensity.")
        if not set(self.mirror) <= set(range(AXES)):
            raise UserError(f"augment.mirror is {list(self.mirror)}: give axes, such as [0] or [0, 1, 2]")


MOOT = {"adam": ("weight_penalty", "whiten"), "lbfgs": ("learning_rate", "batch_size")}
"""The settings without effect with each optimiser."""


@dataclass(frozen=True)
class TransferSettings:
    """Training on labelled cases; the defaults are the paper's (Appendix E.3), which mentions no augmentation.

    Raises:
        UserError: a value is out of its range.
    """

    mode: Literal["scratch", "linear", "finetune", "carried"] = field(default="linear", metadata=ARM)
    """What is trained: `linear`, a head on frozen features; `finetune`, the whole network from pre-trained weights;
    `scratch`, the whole network from random weights; `carried`, nothing: as a comparison, the labels of the
    training cases are carried by matching onto the cases that are scored."""
    seed: int = field(default=0, metadata=ARM)
    """Seed of the sample of labelled cases, their order, the crops and all random weights."""
    allow_preprocessing_mismatch: bool = field(default=False, metadata=NOTHING)
    """Accept weights that were trained on volumes with other preprocessing than the store's, such as CT for MR;
    otherwise they are refused."""
    allow_leakage: bool = field(default=False, metadata=NOTHING)
    """Accept weights that were trained on images of the store's val or test split; otherwise they are refused."""
    kernel: int = 3
    """Side of the head's convolution, odd; 1 makes the head a classifier of single voxels (the paper has "a
    convolutional layer")."""
    labels: int | None = None
    """Number of labelled training cases to draw, stratified by class for a classification; all if not given."""
    optimiser: Literal["adam", "lbfgs"] = "adam"
    """`adam` (the paper), or for `linear` alone `lbfgs`: full-batch on standardised features, which reaches the head's
    optimum in tens of steps and has no learning rate to tune."""
    loss: Literal["dice", "dice_ce"] = "dice"
    """Soft Dice over the structures without the background (the paper names no loss), or `dice_ce`: with
    cross-entropy added, which has no plateaus."""
    weight_penalty: float = 0.0
    """Factor of the L2 penalty on the head's weights in the loss of `lbfgs`."""
    whiten: bool = False
    """Optimise the head of `lbfgs` on whitened inputs: the same optimum in fewer steps."""
    learning_rate: float | tuple[float, ...] = 1e-4
    """Learning rate of Adam; if several are given, such as [3e-4, 1e-3], the best on validation is kept."""
    ema_decay: float = 0.0
    """Decay per step, such as 0.99, of an exponential moving average of the weights, which is then validated, kept and
    tested in their place; 0 uses the weights themselves (the paper). Not for `lbfgs`."""
    max_steps: int = 40_000
    """Maximum number of optimiser steps; a step of `lbfgs` uses every training window."""
    patience: int | None = None
    """Stop after this number of consecutive validations without improvement; never if not given (the paper)."""
    batch_size: int = 1
    """Cases per step, which may differ in size; their losses are averaged."""
    validate_every: int = 200
    """Steps between two validations; the weights with the best score are kept."""
    crop: tuple[int, int, int] = (128, 128, 128)
    """Maximum input size in voxels, one side or three; a smaller volume is used whole."""
    overlap: float = 0.5
    """Fraction of a window that overlaps the next one, if a volume is larger than the crop."""
    backbone: NetworkSettings = field(default_factory=NetworkSettings)
    """Network of a randomly initialised backbone; pre-trained weights have their own."""
    width: int = 32
    """Channels of the first level of a randomly initialised backbone; pre-trained weights have their own."""
    levels: Levels = 5
    """Number of resolutions of a randomly initialised backbone; `auto` chooses it from `crop` and the median training
    volume, as for pre-training. Pre-trained weights have their own."""
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    """Number format of the backbone's passes; head and loss are always float32. `auto` is bf16 if the hardware supports
    it, else fp32."""
    device: Literal["auto", "cpu", "cuda"] = field(default="auto", metadata=NOTHING)
    """Device to compute on; `auto` uses a GPU if there is one, else the CPU."""
    cache_gigabytes: float = field(default=4.0, metadata=NOTHING)
    """Memory for frozen features (float16, on the CPU); features that do not fit are computed at each use."""
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    """Augmentation of the training cases; not for `linear`, whose features are computed once."""
    carrying: CarrySettings = field(default_factory=CarrySettings)
    """Carried labels to train on, with --carry, or to score, in mode `carried`."""
    checkpoint_every: int = field(default=200, metadata=NOTHING)
    """Steps between two checkpoints for --resume, kept in RUN.part until RUN is complete; 0 keeps none."""
    clusters: ClusterSettings = field(default_factory=ClusterSettings, metadata=EXTRAS)
    """Clustering of frozen local features by structure."""

    def __post_init__(self) -> None:
        check_settings(
            self,
            **dict.fromkeys(("max_steps", "batch_size", "validate_every", "labels", "patience"), 1),
            **dict.fromkeys(("weight_penalty", "seed", "cache_gigabytes", "checkpoint_every"), 0),
        )
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise UserError(f"kernel is {self.kernel}: give an odd number")
        if self.optimiser == "lbfgs" and self.mode != "linear":
            raise UserError(f"optimiser lbfgs trains a head on frozen features, not mode {self.mode}: give adam")
        if not 0 <= self.ema_decay < 1:
            raise UserError(f"ema_decay is {self.ema_decay}: give 0 or more and less than 1")
        if self.ema_decay and self.optimiser == "lbfgs":
            raise UserError(
                f"ema_decay is {self.ema_decay}, but L-BFGS converges to an optimum, so averaging has "
                "no use: give 0, or optimiser adam"
            )
        if not self.learning_rates or not all(rate > 0 for rate in self.learning_rates):
            raise UserError(f"learning_rate is {self.learning_rate}: give more than 0")
        if min(self.crop) < 1:
            raise UserError(f"crop is {self.crop}: give three sides of 1 voxel or more")
        if not 0 <= self.overlap < 1:
            raise UserError(f"overlap is {self.overlap}: give 0 or more and less than 1")
        if self.width < 8 or self.width % 8:
            raise UserError(f"width is {self.width}: give a multiple of 8")
        if self.levels != "auto" and self.levels < 2:
            raise UserError(f"levels is {self.levels}: give 2 or more")
        if self.mode == "linear" and self.augment.rate:
            raise UserError(
                f"augment.rate is {self.augment.rate}, but mode linear computes its features once: "
                "give 0, or mode finetune or scratch"
            )

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """The learning rates to try, also if there is one."""
        return self.learning_rate if isinstance(self.learning_rate, tuple) else (self.learning_rate,)


def resolve_augment(settings: TransferSettings) -> TransferSettings:
    """Return settings with the rate of augmentation that holds if none was given: 1 if a whole network is trained."""
    rate = settings.augment.rate
    if rate is None:
        rate = 1.0 if settings.mode in ("finetune", "scratch") else 0.0
    return replace(settings, augment=replace(settings.augment, rate=float(rate)))
