"""The preprocessing contract: what was done to a store's volumes, and must be done to later input."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
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
    crop: Literal["foreground", "lungs", "none"] = "foreground"
    """Cut away what is dark all around, or all but the lungs of a chest CT, or keep the whole volume."""
    margin: int = 4
    """Voxels of the prepared grid that are kept around what the crop looks for."""
    lungs: Literal["threshold", "lungmask"] = "threshold"
    """What finds the lungs for a crop about them, where no mask is given: their darkness, or the network of the package
    lungmask, if that is installed with its weights."""
    preset: str = field(default="", compare=False)
    """The name of what these settings began as; it does nothing, so contracts that differ in it alone are equal."""

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
        if self.crop == "lungs" and self.intensity != "window":
            raise UserError("a crop to the lungs needs a window in HU: it looks for air")
        if self.lungs != "threshold" and self.crop != "lungs":
            raise UserError(f"lungs {self.lungs} is for a crop to the lungs, not {self.crop}; give --crop lungs too")
        if self.margin < 0:
            raise UserError(f"preprocessing margin is {self.margin}; it can't be negative")


CHOICES = {
    "orientation": ("RAS",),
    "intensity": ("percentiles", "window"),
    "crop": ("foreground", "lungs", "none"),
    "lungs": ("threshold", "lungmask"),
}
LATER = {"preset": "", "lungs": "threshold"}
"""Settings that earlier contracts don't name, and what was done before there was a choice."""


def preprocessing_values(settings: Preprocessing) -> dict[str, Any]:
    """A contract as JSON values, as it goes into manifests and configs.

    Where the lungs come from is left out where it is what it always was, so that a store's hash stays.
    """
    values = asdict(settings)
    if settings.lungs == LATER["lungs"]:
        del values["lungs"]
    return values


def parse_preprocessing(values: Mapping[str, Any]) -> Preprocessing:
    """The contract that `preprocessing_values` made `values` from, maybe that of an earlier gvsl.

    Raises:
        UserError: a field is missing or unknown, or a value is of the wrong type or out of its range.
    """
    expected = {item.name: type(item.default) for item in fields(Preprocessing)}
    values = {**LATER, **values}
    if values.keys() != expected.keys():
        odd = ", ".join(sorted(values.keys() ^ expected.keys()))
        raise UserError(f"this preprocessing contract lacks or adds {odd}; it was written by another version of gvsl")
    for name, kind in expected.items():
        if isinstance(values[name], bool) or not isinstance(values[name], (kind, int) if kind is float else kind):
            raise UserError(f"preprocessing {name} is {values[name]!r}, not {kind.__name__}")
    return Preprocessing(**values)
