"""Settings of the pre-training methods, and PRETEXTS, which lists the methods."""

from dataclasses import dataclass, field
from typing import Any, Literal

from gvsl.errors import UserError
from gvsl.settings import check_ranges, check_settings
from gvsl.settings.augment import FRACTION, AppearanceSettings, SpatialSettings, ViewSettings

AffineKind = Literal["keypoints", "pooled"]
DeformableKind = Literal["pyramid", "direct"]
Fusion = Literal["compose", "paper"]
HeadNorm = Literal["batch", "layer"]
PREFIX = "pretext."
"""The group of these settings, in messages."""
NOT_MOVED = SpatialSettings(rate=0.0)
"""No spatial augmentation."""


@dataclass(frozen=True)
class BoxSettings:
    """Erased boxes; the defaults are those of in-painting."""

    most_boxes: int = 5
    """Maximum number of boxes per volume, each after the first with probability 0.95."""
    smallest: float = 1 / 6
    """Minimum side of a box, as a fraction of the volume's side."""
    largest: float = 1 / 3
    """Maximum side of a box, as a fraction of the volume's side."""


@dataclass(frozen=True)
class GVSLSettings:
    """The pretext of GVSL; each ablation of Table 1 switches one part off.

    Raises:
        UserError: a value is out of its range.
    """

    matching: bool = True
    """Learn to match (False: Table 1, "w/o Z-Matching")."""
    affine: bool = True
    """Match globally before locally (False: Table 1, "w/o Affine head")."""
    affine_gradient: bool = True
    """Train the affine head; the published code detaches it from the loss."""
    affine_head: AffineKind = "keypoints"
    """Affine head: least squares between key points ("keypoints"), or regression from pooled features ("pooled", the
    paper's)."""
    deformable_head: DeformableKind = "pyramid"
    """Deformable head: coarse to fine by correlation ("pyramid"), or convolutions at full resolution ("direct", the
    paper's)."""
    restoration: bool = True
    """Learn to restore (False: Table 1, "w/o Fundament")."""
    symmetric: bool = True
    """Damage and restore both volumes of a pair, and match them in both directions (False: only the moving one, and in
    one direction, as in Alg. 1)."""
    ncc_weight: float = 1.0
    """Weight of the NCC loss (Alg. 1: 1)."""
    affine_ncc_weight: float = 1.0
    """Weight of a second NCC loss, of the affine part alone; without it, the deformable head leaves little for the
    affine head to do (Alg. 1: 0)."""
    smoothness_weight: float = 2.0
    """Weight of the smoothness loss (Alg. 1: 1)."""
    restoration_weight: float = 10.0
    """Weight of the restoration's mean squared error, which is about a hundredth of the NCC loss (Alg. 1: 1)."""
    ncc_sigma: float = 1.0
    """Standard deviation in voxels of the Gaussian that smooths both images before the NCC, so that interpolation blur
    does not lower the loss (paper: 0)."""
    fusion: Fusion = "compose"
    """Fusion of the affine map and the local field: exact composition ("compose") or Eq. 12 ("paper")."""
    smooth_on: Literal["dvf", "local"] = "dvf"
    """The field that the smoothness loss applies to: the fused one (Eq. 2) or the local one (published code)."""
    window: int = 9
    """Side of the NCC window in voxels."""
    variance_floor: float = 1e-3
    """Epsilon added to the product of two windows' variances, relative to that of the images (paper: not stated)."""
    mask_outside: bool = True
    """Exclude from the NCC the windows centred on voxels of the fixed volume outside its scan, after spatial
    augmentation, or where the field samples outside the moving volume: there is nothing to match. The repeated border
    of the moving volume counts; leaving it out too matched worse (docs/results.md)."""
    damage: Literal["boxes", "appearance"] = "boxes"
    """Damage to restore: in-painted boxes, or the paper's transformation set T."""
    boxes: BoxSettings = field(default_factory=BoxSettings)
    """The boxes, if they are the damage."""
    appearance: AppearanceSettings = field(default_factory=AppearanceSettings)
    """The transformation set T (Appendix C)."""
    spatial: SpatialSettings = field(default_factory=SpatialSettings)
    """Spatial augmentation (the paper mentions none)."""
    independent_poses: bool = True
    """Draw the spatial augmentation of a pair's two volumes independently, so that there are poses to match (False: the
    same for both, as in the published code)."""
    labels: tuple[str, ...] = ()
    """Ids of two or more labelled cases of the split train whose labels the matching may use; none if not given.
    Weights trained with them are refused where fewer labelled cases are drawn."""
    labels_weight: float = 1.0
    """Weight of the Dice loss of labels carried between these cases."""

    def __post_init__(self) -> None:
        weights = ("ncc_weight", "affine_ncc_weight", "smoothness_weight", "restoration_weight", "labels_weight")
        check_settings(self, PREFIX, ncc_sigma=0, **dict.fromkeys(weights, 0))
        self.appearance.check(f"{PREFIX}appearance.")
        self.spatial.check(f"{PREFIX}spatial.")
        if self.window < 1 or self.window % 2 == 0:
            raise UserError(f"{PREFIX}window is {self.window}: give an odd number")
        if not self.variance_floor > 0:
            raise UserError(f"{PREFIX}variance_floor is {self.variance_floor:g}: give more than 0, such as 1e-3")


@dataclass(frozen=True)
class DenoisingSettings:
    """Noise of denoising."""

    sigma: float = 0.1
    """Standard deviation of the Gaussian noise, as a fraction of the intensity range (ours; GVSL's paper does not
    state its value)."""
    spatial: SpatialSettings = NOT_MOVED
    """Spatial augmentation of each volume before it is damaged, in training (none in the paper)."""

    def __post_init__(self) -> None:
        self.spatial.check(f"{PREFIX}spatial.")


@dataclass(frozen=True)
class InpaintingSettings:
    """Boxes of in-painting."""

    most_boxes: int = 5
    """Maximum number of boxes per volume, each after the first with probability 0.95 (as publicly known
    of Models Genesis)."""
    smallest: float = 1 / 6
    """Minimum side of a box, as a fraction of the volume's side (as publicly known of Models Genesis)."""
    largest: float = 1 / 3
    """Maximum side of a box, as a fraction of the volume's side (as publicly known of Models Genesis)."""
    spatial: SpatialSettings = NOT_MOVED
    """Spatial augmentation of each volume before it is damaged, in training (none in the paper)."""

    def __post_init__(self) -> None:
        self.spatial.check(f"{PREFIX}spatial.")


@dataclass(frozen=True)
class ModelsGenesisSettings:
    """The four transforms of Models Genesis, at its publicly known rates; its code was not read."""

    flip_rate: float = 0.4
    """Probability of a flip along one axis, of both the damaged volume and the target."""
    shuffle_rate: float = 0.5
    """Probability of local shuffling."""
    shuffle_largest: float = 1 / 10
    """Maximum side of a shuffled box, as a fraction of the volume's side."""
    intensity_rate: float = 0.9
    """Probability of the non-linear intensity curve."""
    falling: float = 0.5
    """Fraction of decreasing intensity curves."""
    paint_rate: float = 0.9
    """Probability of in-painting or out-painting."""
    inner_share: float = 0.2
    """Probability of in-painting (boxes are erased) rather than out-painting (all but boxes is erased)."""
    inner_smallest: float = 1 / 6
    """Minimum side of an erased box, as a fraction of the volume's side."""
    inner_largest: float = 1 / 3
    """Maximum side of an erased box, as a fraction of the volume's side."""
    outer_smallest: float = 3 / 7
    """Minimum side of a box kept by out-painting, as a fraction of the volume's side."""
    outer_largest: float = 4 / 7
    """Maximum side of a box kept by out-painting, as a fraction of the volume's side."""
    most_boxes: int = 5
    """Maximum number of boxes per volume, each after the first with probability 0.95."""
    spatial: SpatialSettings = NOT_MOVED
    """Spatial augmentation of each volume before it is damaged, in training (none in the paper)."""

    def __post_init__(self) -> None:
        rates = ("flip_rate", "shuffle_rate", "intensity_rate", "falling", "paint_rate", "inner_share")
        check_ranges(self, PREFIX, shuffle_largest=FRACTION, **dict.fromkeys(rates, FRACTION))
        self.spatial.check(f"{PREFIX}spatial.")


@dataclass(frozen=True)
class RotationSettings:
    """Augmentation of the rotated volumes."""

    spatial: SpatialSettings = NOT_MOVED
    """Spatial augmentation of each volume before it is rotated, in training (none in the paper)."""

    def __post_init__(self) -> None:
        self.spatial.check(f"{PREFIX}spatial.")


@dataclass(frozen=True)
class DeepClusterSettings:
    """Clustering, and augmentation of the classified volumes."""

    clusters: int = 8
    """k (paper: 10,000 for 1.3 million images, 130 a cluster; a cohort of 130 volumes allows 16 a cluster)."""
    components: int = 16
    """Dimensions of the whitened features (paper: 256); far fewer than the volumes, else all are equidistant."""
    least_epoch: int = 50
    """Minimum number of steps between two assignments, even if the split is seen in fewer: a fresh top layer must be
    learnt before it is useful (paper: an epoch, which is 5,000 steps of its data)."""
    spatial: SpatialSettings = field(default_factory=SpatialSettings)
    """Spatial augmentation of the classified volumes; the clustered volumes are not augmented."""
    appearance: AppearanceSettings = field(default_factory=AppearanceSettings)
    """The transformation set T of GVSL (Appendix C), for the classified volumes."""

    def __post_init__(self) -> None:
        check_settings(self, PREFIX, clusters=2, components=1, least_epoch=1)
        self.spatial.check(f"{PREFIX}spatial.")
        self.appearance.check(f"{PREFIX}appearance.")


@dataclass(frozen=True)
class SimSiamSettings:
    """Heads and views of SimSiam."""

    projection: int = 512
    """Size of the projector's three layers, equal to that of the features (paper: 2048, also equal)."""
    bottleneck: int = 128
    """Size of the predictor's hidden layer, a quarter of its output (paper: 512)."""
    norm: HeadNorm = "batch"
    """Normalisation in the heads: over the batch (paper), or within each row ("layer")."""
    views: ViewSettings = field(default_factory=ViewSettings)
    """The two views."""
    chunk: int | None = None
    """Number of views encoded at a time, by default all; a smaller number saves memory, at a third more time."""

    def __post_init__(self) -> None:
        check_settings(self, PREFIX, projection=1, bottleneck=1, chunk=1)
        self.views.check(f"{PREFIX}views.")


@dataclass(frozen=True)
class BYOLSettings:
    """Target network, heads and views of BYOL."""

    momentum: float = 0.99
    """Initial momentum of the target; it rises to 1 along half a cosine (paper: 0.99 for 300 epochs, 0.996 for
    1000)."""
    hidden: int = 512
    """Size of the hidden layers of projector and predictor (paper: 4096)."""
    projection: int = 128
    """Size of the embeddings (paper: 256)."""
    norm: HeadNorm = "batch"
    """Normalisation in the heads: over the batch (paper), or within each row ("layer")."""
    views: ViewSettings = field(default_factory=ViewSettings)
    """The two views."""
    chunk: int | None = None
    """Number of views encoded at a time, by default all; a smaller number saves memory, at a third more time."""

    def __post_init__(self) -> None:
        check_settings(self, PREFIX, hidden=1, projection=1, chunk=1)
        self.views.check(f"{PREFIX}views.")


@dataclass(frozen=True)
class SimCLRSettings:
    """Loss, head and views of SimCLR."""

    temperature: float = 0.1
    """Temperature of NT-Xent (paper: 0.1 for ImageNet, 0.5 for CIFAR-10)."""
    hidden: int = 512
    """Size of the projector's hidden layer, equal to that of the features (paper: 2048, also equal)."""
    projection: int = 128
    """Size of the embeddings (paper: 128)."""
    norm: HeadNorm = "batch"
    """Normalisation in the head: over the batch (paper), or within each row ("layer")."""
    views: ViewSettings = field(default_factory=ViewSettings)
    """The two views."""
    chunk: int | None = None
    """Number of views encoded at a time, by default all. A smaller number saves memory, for batches with more
    negatives, at a third more time."""

    def __post_init__(self) -> None:
        check_settings(self, PREFIX, hidden=1, projection=1, chunk=1)
        self.views.check(f"{PREFIX}views.")


NO_MATCHING = GVSLSettings(matching=False)
NO_RESTORATION = GVSLSettings(restoration=False)
NO_AFFINE = GVSLSettings(affine=False)


@dataclass(frozen=True)
class Pretext:
    """A method as the command line shows it."""

    summary: str
    """One line: the first of the docstring of its factory, `gvsl.methods.METHODS[name]`."""
    settings: Any
    """The defaults."""


PRETEXTS: dict[str, Pretext] = {
    "gvsl": Pretext("Match two subjects' volumes, and restore a damaged one.", GVSLSettings()),
    "gvsl-no-matching": Pretext(
        'GVSL without its matching: restore a damaged volume (Table 1, "w/o Z-Matching").', NO_MATCHING
    ),
    "gvsl-no-restoration": Pretext(
        'GVSL without its restoration: match two subjects\' volumes (Table 1, "w/o Fundament").', NO_RESTORATION
    ),
    "gvsl-no-affine": Pretext(
        'GVSL without its affine head: match only locally, and restore (Table 1, "w/o Affine head").', NO_AFFINE
    ),
    "denoising": Pretext("Remove Gaussian noise from a volume.", DenoisingSettings()),
    "inpainting": Pretext("Fill in boxes that were erased from a volume.", InpaintingSettings()),
    "models-genesis": Pretext("Undo shuffling, an intensity curve, and in- or out-painting.", ModelsGenesisSettings()),
    "rotation": Pretext(
        "Classify the rotation applied to a volume: none, or 90, 180 or 270 degrees about one axis.", RotationSettings()
    ),
    "deepcluster": Pretext(
        "Alternate between clustering the volumes by their features and classifying each volume's cluster.",
        DeepClusterSettings(),
    ),
    "simsiam": Pretext(
        "Predict each view's embedding from the other's, which receives no gradient.", SimSiamSettings()
    ),
    "byol": Pretext("Predict the embedding that a moving average of the network gives the other view.", BYOLSettings()),
    "simclr": Pretext("Find each view's positive among the views of all volumes, of all processes.", SimCLRSettings()),
}
"""Every method by name, in the order of METHODS; without torch, so that help comes at once."""
