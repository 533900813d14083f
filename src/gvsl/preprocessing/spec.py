"""The preprocessing spec: how a store's volumes were prepared, and how later input must be."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from typing import Any, Literal, get_args, get_origin, get_type_hints

from gvsl.cases import SourceChannel
from gvsl.errors import UserError

MAX_CHANNELS = 32
"""Limit for the channels of an image."""
Spacing = float | tuple[float, float, float]


@dataclass(frozen=True)
class Channel(SourceChannel):
    """One of several channels of an image, with its own intensity range: the same fields as in `Preprocessing`."""

    intensity: Literal["percentiles", "window"]
    lower: float
    upper: float


@dataclass(frozen=True)
class Preprocessing:
    """Preparation of a volume for a network.

    Raises:
        UserError: a value is out of its range.
    """

    orientation: Literal["RAS"] = "RAS"
    """Axis directions of the prepared volume: towards right, anterior and superior."""
    spacing: Spacing = 1.0
    """Voxel spacing in millimetres: one value for isotropic voxels, or one per axis (right, anterior, superior), such
    as 0.8 0.8 3."""
    intensity: Literal["percentiles", "window"] = "percentiles"
    """Meaning of `lower` and `upper`: percentiles of each volume's own values, or intensities, such as HU."""
    lower: float = 0.5
    """Percentile or value that is mapped to 0; lower values are clipped."""
    upper: float = 99.5
    """Percentile or value that is mapped to 1; higher values are clipped."""
    crop: Literal["foreground", "lungs", "none"] = "foreground"
    """Region to crop to: the foreground, the lungs of a chest CT, or none (no cropping)."""
    margin: int = 4
    """Margin around the cropped region, in voxels of the prepared grid."""
    lungs: Literal["threshold", "lungmask"] = "threshold"
    """How a crop to the lungs finds them if no mask is supplied: by an intensity threshold, or with the network of the
    package lungmask, which must be installed with its weights."""
    preset: str = field(default="", compare=False)
    """Name of the preset that the settings are based on. It has no effect and is ignored when specs are compared."""
    channels: tuple[Channel, ...] = ()
    """The channels in order, each with its own range instead of the one above; empty if the source has one channel."""

    def __post_init__(self) -> None:
        """Check every value."""
        for name, kind in get_type_hints(Preprocessing).items():
            choices = get_args(kind)
            if get_origin(kind) is Literal and getattr(self, name) not in choices:
                raise UserError(f"preprocessing {name} is {getattr(self, name)!r}; it can be {' or '.join(choices)}")
        if not all(isfinite(edge) and 0 < edge <= 100 for edge in self.voxel):
            given = format_spacing(self.spacing)
            raise UserError(f"preprocessing spacing is {given} mm; it must be above 0 and at most 100")
        if len(set(self.voxel)) == 1:  # one spec for one meaning, with the hash that it always had
            object.__setattr__(self, "spacing", self.voxel[0])
        if not (isfinite(self.lower) and isfinite(self.upper) and self.lower < self.upper):
            raise UserError(
                f"preprocessing lower is {self.lower:g} and upper {self.upper:g}; lower must be the smaller"
            )
        if self.intensity == "percentiles" and not (self.lower >= 0 and self.upper <= 100):
            raise UserError(f"percentiles run from 0 to 100, not from {self.lower:g} to {self.upper:g}")
        if len(self.channels) > MAX_CHANNELS:
            raise UserError(f"an image of {len(self.channels)} channels; {MAX_CHANNELS} are the most")
        for channel in self.channels:
            if not 0 <= channel.number < channel.count or not channel.name.isprintable() or not channel.name:
                raise UserError(f"{channel.name!r} is no channel {channel.number} of {channel.count}")
        ranges = [each.intensity for each in self.contracts] if self.channels else [self.intensity]
        if self.crop == "lungs" and "window" not in ranges:
            raise UserError("a crop to the lungs needs a window in HU, by which it finds air")
        if self.lungs != "threshold" and self.crop != "lungs":
            raise UserError(f"lungs {self.lungs} is for a crop to the lungs, not {self.crop}; give --crop lungs too")
        if self.margin < 0:
            raise UserError(f"preprocessing margin is {self.margin}; it can't be negative")

    @property
    def voxel(self) -> tuple[float, float, float]:
        """Edges of a voxel along each axis, in millimetres."""
        return self.spacing if isinstance(self.spacing, tuple) else (self.spacing,) * 3

    @property
    def channel_count(self) -> int:
        """Number of channels of a prepared image."""
        return max(1, len(self.channels))

    @property
    def contracts(self) -> tuple["Preprocessing", ...]:
        """The spec of each channel as that of an image of its own; only those in HU are cropped to the lungs."""
        if not self.channels:
            return (self,)
        return tuple(self._contract(channel) for channel in self.channels)

    def _contract(self, channel: Channel) -> "Preprocessing":
        without_lungs = self.crop == "lungs" and channel.intensity != "window"
        return replace(
            self,
            intensity=channel.intensity,
            lower=channel.lower,
            upper=channel.upper,
            crop="foreground" if without_lungs else self.crop,
            lungs="threshold" if without_lungs else self.lungs,
            channels=(),
        )


def format_spacing(spacing: Spacing) -> str:
    """Format a spacing as it is given on the command line.

    >>> format_spacing((0.8, 0.8, 3.0))
    '0.8 0.8 3'
    """
    return " ".join(f"{edge:g}" for edge in (spacing if isinstance(spacing, tuple) else (spacing,)))


AIR_HU = -200.0
"""Upper limit for lung and air, which nearly every CT shows."""


def begins_at_air(spec: Preprocessing) -> bool:
    """Return True if the intensities are taken for HU, in a window that begins at air or lung."""
    return spec.intensity == "window" and spec.lower < AIR_HU


def describe_range(spec: Preprocessing | Channel) -> str:
    """Describe a range of intensities.

    >>> describe_range(Preprocessing())
    'percentiles 0.5 to 99.5'
    """
    return f"{spec.intensity} {spec.lower:g} to {spec.upper:g}"


def format_channels(channels: Sequence[Channel]) -> str:
    """Format channels as they are given on the command line."""
    return " ".join(shlex.quote(f"{each.name}={each.intensity}:{each.lower:g}:{each.upper:g}") for each in channels)


def setting_text(spec: Preprocessing, name: str) -> str:
    """Return a setting for messages."""
    value = getattr(spec, name)
    if name == "channels":
        return format_channels(value) or "one"
    return str(value)


LATER: dict[str, Any] = {"preset": "", "lungs": "threshold", "channels": ()}
"""Settings that stores of an earlier gvsl lack, with the behaviour of that time."""


def preprocessing_values(settings: Preprocessing) -> dict[str, Any]:
    """Convert a spec to JSON values for manifests and configs.

    A default `lungs` and no `channels` are left out, so that the hash of stores from before them stays the same.
    """
    values = asdict(settings)
    for name in ("lungs", "channels"):
        if getattr(settings, name) == LATER[name]:
            del values[name]
    if settings.channels:
        values["channels"] = [asdict(channel) for channel in settings.channels]
    return values
