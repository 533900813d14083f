"""Settings of matching and of label propagation."""

from dataclasses import dataclass
from typing import Literal

from gvsl.errors import UserError
from gvsl.propagation.vote import Voting
from gvsl.settings import check_settings

Start = Literal["affine", "field", "none"]


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
class PropagationSettings(MatchSettings):
    """How labels are carried; the defaults were chosen on validation cases of hippocampus and left-atrium MR.

    Raises:
        UserError: a value is out of its range.
    """

    voting: Voting = "local"
    """Votes of several atlases: `local` weights by similarity, `joint` label fusion, or `majority`."""
    least_dice: float = 0.7
    """DSC of the labels carried back onto an atlas below which a match counts as failed; 0 carries nothing back and
    trusts every match, in half the time."""

    def check(self, prefix: str) -> None:
        """Check the ranges; messages name the settings with a prefix."""
        super().check(prefix)
        check_settings(self, prefix, least_dice=0)
        if self.least_dice > 1:
            raise UserError(f"{prefix}least_dice is {self.least_dice}: give 0 to 1")
