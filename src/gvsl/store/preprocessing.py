"""The preprocessing contract: what was done to a store's volumes, and must be done to later input."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import isfinite
from typing import Any, Literal

from gvsl.errors import UserError


@dataclass(frozen=True)
class Preprocessing:
    """What is done to a volume before a network sees it.

    Raises:
        UserError: a value is out of its range.
    """

    orientation: Literal["RAS"] = "RAS"
    """The direction in which the axes grow: right, anterior, superior."""
    spacing: float = 1.0
    """The edge of a voxel in millimetres, the same along every axis."""
    intensity: Literal["percentiles", "window"] = "percentiles"
    """What `lower` and `upper` are: percentiles of the volume's own values, or values such as HU."""
    lower: float = 0.5
    """Becomes 0; what is below is clipped."""
    upper: float = 99.5
    """Becomes 1; what is above is clipped."""
    crop: Literal["foreground", "none"] = "foreground"
    """Cut away what is dark all around, or keep the whole volume."""
    margin: int = 4
    """Voxels of the prepared grid that are kept around the foreground."""

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise UserError(f"preprocessing {name} is {getattr(self, name)!r}; it can be {' or '.join(choices)}")
        if not (isfinite(self.spacing) and 0 < self.spacing <= 100):
            raise UserError(f"preprocessing spacing is {self.spacing:g} mm; it must be above 0 and at most 100")
        if not (isfinite(self.lower) and isfinite(self.upper) and self.lower < self.upper):
            raise UserError(
                f"preprocessing lower is {self.lower:g} and upper {self.upper:g}; lower must be the smaller"
            )
        if self.intensity == "percentiles" and not (self.lower >= 0 and self.upper <= 100):
            raise UserError(f"percentiles run from 0 to 100, not from {self.lower:g} to {self.upper:g}")
        if self.margin < 0:
            raise UserError(f"preprocessing margin is {self.margin}; it can't be negative")


CHOICES = {"orientation": ("RAS",), "intensity": ("percentiles", "window"), "crop": ("foreground", "none")}

PRESETS = {
    "mr": Preprocessing(),
    "ct": Preprocessing(intensity="window", lower=-1024.0, upper=1024.0),
}
"""Contracts by the kind of scan: MR by the volume's own range, CT by the window in HU."""


def parse_preprocessing(values: Mapping[str, Any]) -> Preprocessing:
    """The contract that `dataclasses.asdict` made `values` from.

    Raises:
        UserError: a field is missing or unknown, or a value is of the wrong type or out of its range.
    """
    expected = {field.name: type(getattr(PRESETS["mr"], field.name)) for field in fields(Preprocessing)}
    if values.keys() != expected.keys():
        odd = ", ".join(sorted(values.keys() ^ expected.keys()))
        raise UserError(f"this preprocessing contract lacks or adds {odd}; it was written by another version of gvsl")
    for name, kind in expected.items():
        if isinstance(values[name], bool) or not isinstance(values[name], (kind, int) if kind is float else kind):
            raise UserError(f"preprocessing {name} is {values[name]!r}, not {kind.__name__}")
    return Preprocessing(**values)
