"""Settings of matching, of registration and of label propagation."""

from dataclasses import dataclass
from typing import Literal

from gvsl.errors import UserError
from gvsl.settings import check_settings

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

    refine: int = 40
    """Steps of refinement on each pair (`gvsl.refinement`); 0 takes the start itself."""
    start: Start = "affine"
    """What is refined: the affine part of the network's field, the whole field, or nothing (`none`)."""

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
    """Device to compute on; `auto` takes a GPU if there is one."""
    any_modality: bool = False
    """Register images that seem to be of two modalities; they are refused otherwise."""


@dataclass(frozen=True)
class PropagationSettings(MatchSettings):
    """How labels are carried; the defaults were chosen on validation cases of hippocampus and left-atrium MR.

    Raises:
        UserError: a value is out of its range.
    """

    voting: Voting = "local"
    """Votes of several atlases: `local` weights by similarity, `joint` label fusion, or `majority`."""
    sharpness: float = 2.0
    """Power of the local similarity that an atlas votes with, under `local`."""
    templates: int = 0
    """Unlabelled volumes that labels also pass through: each gets them from the atlases, and votes like an atlas (MAGeT
    Brain, Chakravarty et al. 2013). Takes so many times longer."""
    least_dice: float = 0.7
    """DSC of the labels carried back onto an atlas below which a match counts as failed; 0 checks nothing, neither
    this nor the pose (`gvsl.propagation.pose`), and takes less than half the time."""

    def check(self, prefix: str) -> None:
        """Check the ranges; messages name the settings with a prefix."""
        super().check(prefix)
        check_settings(self, prefix, least_dice=0, sharpness=0, templates=0)
        if self.least_dice > 1:
            raise UserError(f"{prefix}least_dice is {self.least_dice}: give 0 to 1")


@dataclass(frozen=True)
class PoolSettings(PropagationSettings):
    """How labels are carried onto volumes that are trained on.

    Raises:
        UserError: a value is out of its range.
    """

    images: Images = "own"
    """Images that are trained on: the volume's `own` with the carried labels; each `atlas` itself, warped onto the
    volume as its labels are, so that both fit (Zhao et al. 2019); or `both`."""
    fields: Fields = "matched"
    """Fields that warp atlases: those of the match (`matched`), or as a control `random` ones of the same strength and
    smoothness (`gvsl.propagation.random_fields`), one for each volume that matches. Carried labels are matched."""
    appearance: float = 0.0
    """Standard deviation in voxels of the Gaussian that smooths the difference between a volume and the atlas warped
    onto it, which is added to the warped image; 0 leaves it as it is."""

    targets: Targets = "hard"
    """Targets of the examples: at each voxel the label with most votes (`hard`), or the shares of the votes (`soft`),
    weighed by the confidence where the labels are carried onto another image."""

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
                f"{prefix}fields random warps atlases, and {prefix}images own trains on none: leave it out, or choose "
                "atlas or both"
            )
        if self.fields == "random" and self.appearance:
            raise UserError(
                f"{prefix}appearance is {self.appearance:g}, but an atlas that a random field warps does not lie on "
                "the volume: leave it out"
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
    """Device to compute on; `auto` takes a GPU if there is one."""
    allow_preprocessing_mismatch: bool = False
    """Accept stores that were prepared unlike the run's training data; they are refused otherwise."""
    allow_leakage: bool = False
    """Score labelled cases of val and test although the run was trained on images of those splits, or on labels of
    other cases than the atlases; it is refused otherwise."""
