"""Settings of matching, of registration and of label propagation."""

from dataclasses import dataclass
from typing import Literal

from gvsl.errors import UserError
from gvsl.settings import check_settings
from gvsl.settings.refinement import RefinementSettings

Voting = Literal["local", "joint", "majority"]
Start = Literal["affine", "field", "none"]
Images = Literal["own", "atlas", "both"]
Targets = Literal["hard", "soft"]
Fields = Literal["matched", "random"]


@dataclass(frozen=True)
class MatchSettings:
    """How two volumes are matched.

    Raises:
        UserError: a value is out of its range.
    """

    refine: int = RefinementSettings.steps
    """Number of refinement steps on each pair (`gvsl.refinement`); 0 uses the start unchanged."""
    start: Start = "affine"
    """Start of the refinement: the network's `affine` part, its whole `field`, or no network (`none`)."""

    def __post_init__(self) -> None:
        self.check("")

    def check(self, prefix: str) -> None:
        """Check the ranges; messages name the settings with a prefix."""
        check_settings(self, prefix, refine=0)


@dataclass(frozen=True)
class RegisterSettings(MatchSettings):
    """Settings of `register`.

    Raises:
        UserError: a value is out of its range.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to compute on; `auto` uses a GPU if there is one."""
    any_modality: bool = False
    """Register images even if they seem to have different modalities; otherwise they are refused."""


@dataclass(frozen=True)
class PropagationSettings(MatchSettings):
    """How labels are carried; the defaults were chosen on validation cases of hippocampus and left-atrium MR.

    Raises:
        UserError: a value is out of its range.
    """

    voting: Voting = "local"
    """Votes of several atlases: `local` weights by similarity, `joint` label fusion, or `majority`."""
    sharpness: float = 2.0
    """Power to which the local similarity is raised in `local` voting."""
    templates: int = 0
    """Number of unlabelled volumes that labels also pass through: each gets labels from the atlases and then votes like
    an atlas (MAGeT Brain, Chakravarty et al. 2013). Takes this many times longer."""
    least_dice: float = 0.7
    """Minimum DSC of the labels carried back onto an atlas; below it, a match counts as failed. 0 disables this check
    and that of the pose (`gvsl.propagation.pose`), and takes less than half the time."""

    def check(self, prefix: str) -> None:
        """Check the ranges; messages name the settings with a prefix."""
        super().check(prefix)
        check_settings(self, prefix, least_dice=0, sharpness=0, templates=0)
        if self.least_dice > 1:
            raise UserError(f"{prefix}least_dice is {self.least_dice}: give 0 to 1")


@dataclass(frozen=True)
class PoolSettings(PropagationSettings):
    """How labels are propagated onto unlabelled volumes for training.

    Raises:
        UserError: a value is out of its range.
    """

    images: Images = "own"
    """Images to train on: the volume's `own` image with the carried labels; each `atlas`, warped onto the volume
    together with its labels, so that both fit (Zhao et al. 2019); or `both`."""
    fields: Fields = "matched"
    """Fields that warp atlases: those of the match (`matched`), or, as a control, `random` fields of the same strength
    and smoothness (`gvsl.propagation.random_fields`), one for each volume that matches. Carried labels always use the
    match."""
    appearance: float = 0.0
    """Standard deviation in voxels of the Gaussian that smooths the difference between a volume and the atlas warped
    onto it, which is added to the warped image; 0 leaves the image unchanged."""

    targets: Targets = "hard"
    """Targets of the examples: at each voxel the label with the most votes (`hard`), or the fractions of the votes
    (`soft`), weighted by the confidence if the labels are carried onto another image."""

    def check(self, prefix: str) -> None:
        """Check the ranges; messages name the settings with a prefix."""
        super().check(prefix)
        check_settings(self, prefix, appearance=0)
        if self.templates and self.images == "atlas":
            raise UserError(
                f"{prefix}templates is {self.templates}, but {prefix}images atlas trains on the atlases' own labels: "
                "leave it out, or choose own or both"
            )
        if self.fields == "random" and self.images == "own":
            raise UserError(
                f"{prefix}fields random applies to warped atlases, but {prefix}images own trains on none: leave it "
                "out, or choose atlas or both"
            )
        if self.fields == "random" and self.appearance:
            raise UserError(
                f"{prefix}appearance is {self.appearance:g}, but an atlas warped by a random field is not aligned "
                "with the volume: leave it out"
            )


@dataclass(frozen=True)
class PropagateSettings(PropagationSettings):
    """Settings of `propagate`.

    Raises:
        UserError: a value is out of its range.
    """

    grid: Literal["store", "source"] = "store"
    """Grid of the results of a store's cases: that of the `store`'s own volumes, or of each case's `source`."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to compute on; `auto` uses a GPU if there is one."""
    allow_preprocessing_mismatch: bool = False
    """Accept stores with other preprocessing than the run's training data; otherwise they are refused."""
    allow_leakage: bool = False
    """Score labelled cases of val and test although the run was trained on images of those splits, or on labels of
    other cases than the atlases; otherwise this is refused."""
