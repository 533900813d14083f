"""The range of intensities of each channel: asked for, or by the channel's name and the settings for all."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from gvsl.cases import SourceChannel
from gvsl.errors import UserError
from gvsl.preprocessing.presets import CT, MR
from gvsl.preprocessing.spec import Channel, Preprocessing

HU = re.compile(r"(?:ce|cb)?ct[a-z]?(?:[-_ ].*)?", re.IGNORECASE)
"""Names of channels in HU."""
NO_UNIT = re.compile(r"(?:mr|t1|t2|pd|flair|adc|dwi|dti|swi|b0|pet|pt|suv|spect).*", re.IGNORECASE)
"""Names of channels without a unit, or with one that no window in HU fits."""
NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
ASKED = re.compile(rf"(?P<name>.*?)(?:=(?P<intensity>percentiles|window):(?P<lower>{NUMBER}):(?P<upper>{NUMBER}))?")


@dataclass(frozen=True)
class AskedChannel:
    """A channel of the command line, with its range if one is given."""

    name: str
    range: tuple[str, float, float] | None = None
    """Intensity, lower and upper."""


def parse_channel(text: str) -> AskedChannel:
    """Parse NAME or NAME=percentiles:LOWER:UPPER or NAME=window:LOWER:UPPER.

    Raises:
        UserError: it is neither.

    >>> parse_channel("CT=window:-160:240")
    AskedChannel(name='CT', range=('window', -160.0, 240.0))
    """
    found = ASKED.fullmatch(text)
    if found is None or not found["name"] or "=" in found["name"]:
        raise UserError(f"--channels {text}: give a name, or one with a range such as CT=window:-160:240")
    if found["intensity"] is None:
        return AskedChannel(found["name"])
    return AskedChannel(found["name"], (found["intensity"], float(found["lower"]), float(found["upper"])))


def with_channels(spec: Preprocessing, taken: Sequence[SourceChannel], asked: Sequence[AskedChannel]) -> Preprocessing:
    """Return a spec with the channels that are taken of a source, each with its range.

    That is the one asked for; else the spec's own, or, where that is a window in HU and the channel's name says that
    it has none, the percentiles of `mr`, and the other way round the window of `ct`.

    Args:
        spec: the settings for all channels.
        taken: none if the source has one channel.
        asked: for none, for all or for each of those that are taken, in their order.

    Raises:
        UserError: a range is asked for of a source with one channel, or is none.
    """
    ranges = [each.range for each in asked]
    if not taken:
        if any(ranges):
            raise UserError("the images have one channel: give its range by --intensity, --lower and --upper")
        return spec
    if len(ranges) != len(taken):
        ranges = [None] * len(taken)
    channels = []
    for channel, own in zip(taken, ranges, strict=True):
        default = _by_name(channel.name, spec)
        kind, lower, upper = own or (default.intensity, default.lower, default.upper)
        intensity: Literal["window", "percentiles"] = "window" if kind == "window" else "percentiles"
        channels.append(Channel(channel.name, channel.number, channel.count, intensity, lower, upper))
    return replace(spec, channels=tuple(channels))


def _by_name(name: str, spec: Preprocessing) -> Preprocessing:
    if spec.intensity == "percentiles" and HU.fullmatch(name):
        return CT
    if spec.intensity == "window" and NO_UNIT.fullmatch(name):
        return MR
    return spec
