"""Settings of carried labels in a transfer."""

from dataclasses import dataclass, fields

from gvsl.errors import UserError
from gvsl.settings import check_settings
from gvsl.settings.propagation import PoolSettings, PropagationSettings


@dataclass(frozen=True)
class CarrySettings(PoolSettings):
    """How labels are carried onto unlabelled volumes and trained on; only with --carry, or in mode `carried`.

    Raises:
        UserError: a value is out of its range.
    """

    teacher: str | None = None
    """The folder of a segmentation run on the same labelled cases, whose probabilities are averaged with the votes."""
    teacher_share: float = 0.5
    """The teacher's weight in that average. With 1, `least_dice` 0 and `hard` targets, the matching decides nothing
    (self-training, as a control)."""
    real_share: float = 0.25
    """Minimum fraction of the examples that are drawn from the labelled cases themselves."""
    volumes: int | None = None
    """Maximum number of volumes that get carried labels; all of the split `pretrain` if not given."""
    transductive: bool = False
    """Also carry labels onto the images of val and test; a comparison must report this."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        self.check("carrying.")
        check_settings(self, "carrying.", real_share=0, volumes=1)
        if self.teacher is not None and self.images == "atlas":
            raise UserError(
                "carrying.teacher has no effect if carrying.images is atlas, which trains on the atlases' labels: "
                "leave it out, or choose own or both"
            )
        if not 0 < self.teacher_share <= 1:
            raise UserError(f"carrying.teacher_share is {self.teacher_share}: give more than 0 and at most 1")
        if self.teacher is None and self.teacher_share != 0.5:
            raise UserError(
                f"carrying.teacher_share is {self.teacher_share}, but there is no teacher: leave it out, or name a run "
                "with --carrying.teacher"
            )
        if self.real_share >= 1:
            raise UserError(f"carrying.real_share is {self.real_share}: give 0 or more and less than 1")


SCORED = (*(item.name for item in fields(PropagationSettings)), "teacher", "teacher_share")
"""The settings that have an effect where carried labels are scored and nothing is trained."""


def moot_settings(mode: str, carries: bool) -> tuple[str, ...]:
    """Return the settings of carrying that have no effect in a transfer.

    Args:
        mode: of the transfer.
        carries: whether --carry names a run.
    """
    effective = SCORED if mode == "carried" else ()
    return () if carries else tuple(item.name for item in fields(CarrySettings) if item.name not in effective)


def without_moot_settings(settings: CarrySettings, mode: str, carries: bool) -> CarrySettings:
    """Return settings with the defaults of those that have no effect in a transfer, see `moot_settings`."""
    moot = moot_settings(mode, carries)
    return CarrySettings(**{name: value for name, value in vars(settings).items() if name not in moot})
