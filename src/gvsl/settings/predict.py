"""Settings of prediction."""

from dataclasses import dataclass
from typing import Literal

from gvsl.settings import check_settings


@dataclass(frozen=True)
class PredictSettings:
    """Settings of prediction.

    Raises:
        UserError: a value is out of its range.
    """

    output: Literal["labels", "probabilities"] = "labels"
    """`labels`: one label map per image; `probabilities`: one map of 0 to 1 per structure. A classification writes a
    table of scores in either case."""
    grid: Literal["source", "store"] = "source"
    """Grid of the results of a store's cases: that of each case's `source`, or of the `store`'s own volumes."""
    mirror: bool = False
    """Average over the eight mirror images of each window, in eight times the time."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to compute on; `auto` uses a GPU if there is one."""
    allow_preprocessing_mismatch: bool = False
    """Accept a store with other preprocessing than the run's training data; otherwise it is refused."""

    def __post_init__(self) -> None:
        check_settings(self)
