"""Reading a case's image, one volume per channel, for `gvsl prepare` and `gvsl predict` alike."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from gvsl.cases import Case
from gvsl.io import (
    UnusableFile,
    Volume,
    has_frames,
    image_volume,
    other_grid,
    read_frames,
    read_volume,
    refuse_label_map,
    to_canonical,
)
from gvsl.preprocessing.apply import naming_channel
from gvsl.preprocessing.spec import Preprocessing

Channels = Sequence[Volume]
"""The channels of one image on one grid, in the order of `Preprocessing.channels`."""


def read_image(case: Case, spec: Preprocessing) -> Channels:
    """Read and check the channels of a case's image.

    The first is as its file has it; its orientation and position are those of the image.

    Raises:
        UnusableFile: a channel can't be read, is a label map or lies on another grid than the first, or there are
            more or fewer than the spec has.
    """
    if not spec.channels:
        if len(case.channels) > 1:
            raise UnusableFile(f"has {len(case.channels)} channels, and the preprocessing names none: name them")
        return (_read_file(case),)
    if not case.channels:
        return _read_frames(case, spec)
    if len(case.channels) != len(spec.channels):
        raise UnusableFile(f"has {len(case.channels)} channels, not {len(spec.channels)} ({names_of(spec)})")
    found: list[Volume] = []
    for number, own in enumerate(case.channels):
        with naming_channel(spec, number, own.image.name):
            volume = _read_file(own)
            difference = other_grid(to_canonical(volume), to_canonical(found[0])) if found else ""
            if difference:
                raise UnusableFile(
                    f"its grid is not that of {spec.channels[0].name}: {difference}; resample it onto that"
                )
        if found:  # equal but for rounding, and turned as the first
            volume = Volume(to_canonical(volume).array, to_canonical(found[0]).affine)
        found.append(volume)
    return tuple(found)


def names_of(spec: Preprocessing) -> str:
    """List the channels of a spec by name."""
    return ", ".join(channel.name for channel in spec.channels)


def notes_on(channels: Channels, spec: Preprocessing) -> list[str]:
    """Return a note on channels that are copies of each other."""
    pairs = combinations(zip(spec.channels, channels, strict=False), 2)
    return [
        f"its channels {one.name} and {other.name} are the same image"
        for (one, first), (other, second) in pairs
        if np.array_equal(to_canonical(first).array, to_canonical(second).array)
    ]


def _read_file(case: Case) -> Volume:
    volume = read_volume(case.image, case.parts)
    refuse_label_map(volume, case.image, case.doubt)
    return volume


def _read_frames(case: Case, spec: Preprocessing) -> Channels:
    """Read channels from the fourth axis of a file; a single one may also be a file without that axis."""
    alone = len(spec.channels) == 1
    if alone and not has_frames(case.image):
        return (_read_file(case),)
    array, affine = read_frames(case.image, spec.channels[0].count)
    found = []
    for number, channel in enumerate(spec.channels):
        with naming_channel(spec, number):
            volume = image_volume(array[..., channel.number], affine)
            refuse_label_map(volume, case.image, case.doubt)
        found.append(volume)
    return tuple(found)
