"""Settings of the refinement of a field."""

from dataclasses import dataclass

from gvsl.settings import check_settings


@dataclass(frozen=True)
class RefinementSettings:
    """How a field is refined; the defaults were chosen on validation pairs of hippocampus and left-atrium MR.

    Raises:
        UserError: a value is out of its range.
    """

    steps: int = 40
    """Number of steps."""
    step: float = 1.2
    """Length of the first step at full and at half resolution, in voxels of that resolution."""
    window: int = 5
    """Side of the NCC window in voxels."""
    variance_floor: float = 1e-4
    """Epsilon added to the product of two windows' variances, relative to that of the images."""
    balance: float = 0.2
    """Weight of a difference in local contrast (`gvsl.losses.local_ncc_loss`)."""
    update_sigma: float = 1.25
    """Standard deviation in voxels of the Gaussian that smooths each update, twice (fluid regularisation)."""
    field_sigma: float = 0.7
    """Standard deviation in voxels of the Gaussian that smooths the change of the field after each step (elastic
    regularisation)."""

    def __post_init__(self) -> None:
        check_settings(self, "refinement.", steps=1, window=1, balance=0, update_sigma=0, field_sigma=0)
