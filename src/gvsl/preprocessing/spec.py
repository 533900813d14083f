"""The preprocessing spec: how a store's volumes were prepared, and how later input must be."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from math import isfinite
from typing import Any, Literal, get_args, get_origin, get_type_hints

from gvsl.errors import UserError


@dataclass(frozen=True)
class Preprocessing:
    """Preparation of a volume for a network; UserError if a value is out of its range."""

    orientation: Literal["RAS"] = "RAS"
    """Directions in which the axes grow: right, anterior, superior."""
    spacing: float = 1.0
    """Edge of an isotropic voxel, in millimetres."""
    intensity: Literal["percentiles", "window"] = "percentiles"
    """Meaning of `lower` and `upper`: percentiles of the volume's own values, or values such as HU."""
    lower: float = 0.5
    """Mapped to 0; lower values are clipped."""
    upper: float = 99.5
    """Mapped to 1; higher values are clipped."""
    crop: Literal["foreground", "lungs", "none"] = "foreground"
    """Crop to the foreground, to the lungs of a chest CT, or not at all."""
    margin: int = 4
    """Voxels kept around the cropped region, on the prepared grid."""
    lungs: Literal["threshold", "lungmask"] = "threshold"
    """How a crop to the lungs finds them without a supplied mask: by intensity threshold, or by the network of the
    package lungmask, if that is installed with its weights."""
    preset: str = field(default="", compare=False)
    """Name of the preset that the settings are based on; it has no effect and is ignored in comparisons."""

    def __post_init__(self) -> None:
        """Check every value."""
        for name, kind in get_type_hints(Preprocessing).items():
            choices = get_args(kind)
            if get_origin(kind) is Literal and getattr(self, name) not in choices:
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
            raise UserError("a crop to the lungs needs a window in HU, by which it finds air")
        if self.lungs != "threshold" and self.crop != "lungs":
            raise UserError(f"lungs {self.lungs} is for a crop to the lungs, not {self.crop}; give --crop lungs too")
        if self.margin < 0:
            raise UserError(f"preprocessing margin is {self.margin}; it can't be negative")


LATER = {"preset": "", "lungs": "threshold"}
"""Settings that stores of an earlier gvsl lack, with the behaviour of that time."""


def preprocessing_values(settings: Preprocessing) -> dict[str, Any]:
    """Convert a spec to JSON values for manifests and configs.

    A default `lungs` is left out, so that the hash of stores from before that setting stays the same.
    """
    values = asdict(settings)
    if settings.lungs == LATER["lungs"]:
        del values["lungs"]
    return values


def parse_preprocessing(values: Mapping[str, Any]) -> Preprocessing:
    """Parse the output of `preprocessing_values`, also of an earlier gvsl.

    Raises:
        UserError: a field is missing or unknown, or a value is of the wrong type or out of its range.
    """
    expected = {item.name: type(item.default) for item in fields(Preprocessing)}
    values = {**LATER, **values}
    if values.keys() != expected.keys():
        odd = ", ".join(sorted(values.keys() ^ expected.keys()))
        raise UserError(f"these preprocessing settings lack or add {odd}; they were written by another version of gvsl")
    for name, kind in expected.items():
        if isinstance(values[name], bool) or not isinstance(values[name], (kind, int) if kind is float else kind):
            raise UserError(f"preprocessing {name} is {values[name]!r}, not {kind.__name__}")
    return Preprocessing(**values)
