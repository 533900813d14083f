"""Channels of a data set: which it has, which are taken, and the files of one case put together."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gvsl.cases import Case, SourceChannel
from gvsl.datasets.names import normal
from gvsl.datasets.pairing import Image
from gvsl.datasets.places import Place
from gvsl.errors import UserError
from gvsl.text import few, printable

ALL = "all"
NUMBER = re.compile(r"000\d")
"""How nnU-Net numbers channels at the end of a name."""
NAMED = 8
"""Maximum number of channels in a message."""
MAX_NAME = 60


def listed_channels(listing: Mapping[str, Any], keys: Sequence[str], root: Path) -> list[str]:
    """Return the names of the channels in dataset.json, by their numbers from 0.

    Raises:
        UserError: there are none, or they are not numbered from 0.
    """
    found = next((listing[key] for key in keys if key in listing), None)
    names = found if isinstance(found, dict) else {}
    if len(names) == 1:
        return [printable(str(name).strip())[:MAX_NAME] or "0" for name in names.values()]
    if not names or set(names) != {str(number) for number in range(len(names))}:
        raise UserError(
            f'{root}/dataset.json should have the names of the channels in {keys[0]}, like {{"0": "T2", "1": "ADC"}}'
        )
    plain = [printable(str(names[str(number)]).strip())[:MAX_NAME] or str(number) for number in range(len(names))]
    return [f"{name} {number}" if plain.count(name) > 1 else name for number, name in enumerate(plain)]


def taken_channels(names: Sequence[str], asked: Sequence[str], root: Path) -> tuple[SourceChannel, ...]:
    """Return the channels to take of those that a data set has, in the order in which they were asked for.

    Args:
        names: of all channels.
        asked: names or numbers, or "all"; none if nothing was asked for.
        root: of the data set, for messages.

    Returns:
        The channels; none if the images have one, which needs no name.

    Raises:
        UserError: there are several and none was asked for, or there is no such channel.
    """
    has = f"{root} has {len(names)} channels per image ({few(names, NAMED)})"
    if not asked:
        if len(names) == 1:
            return ()
        one = f'"{names[0]}"' if " " in names[0] else names[0]
        raise UserError(f"{has}: give --channels all, or those to take, such as --channels {one}")
    numbers = list(range(len(names))) if list(asked) == [ALL] else [_number(name, names, has) for name in asked]
    if len(set(numbers)) < len(numbers):
        raise UserError(f"--channels names a channel twice; {has}")
    return () if len(names) == 1 else tuple(SourceChannel(names[each], each, len(names)) for each in numbers)


def _number(name: str, names: Sequence[str], has: str) -> int:
    plain = [normal(known) for known in names]
    if plain.count(normal(name)) == 1:
        return plain.index(normal(name))
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    raise UserError(f"there is no channel {name}; {has}")


def ending_channels(asked: Sequence[str]) -> tuple[SourceChannel, ...]:
    """Return the channels that are asked for by the endings of their files' names, such as T1w or 0000.

    Raises:
        UserError: an ending is none, or there twice.
    """
    if ALL in asked:
        raise UserError("--channels all is for data sets with a dataset.json; name the endings, such as T1w T2w")
    odd = next((name for name in asked if not re.fullmatch(r"[\w.+-]+", name)), None)
    if odd is not None or len({normal(name) for name in asked}) < len(asked):
        raise UserError("--channels takes different endings of file names, such as T1w T2w, or 0000 0001")
    return tuple(SourceChannel(name, number, len(asked)) for number, name in enumerate(asked))


@dataclass(frozen=True)
class Part:
    """A case that is one channel of another."""

    base: str
    """Id without the channel's ending."""
    number: int | None
    """Index of the channel among those that are taken; None for others that nnU-Net numbers."""


def part_of(case_id: str, channels: Sequence[SourceChannel]) -> Part | None:
    """Return the channel that an id ends in, by name or by nnU-Net's number; None if it ends in none.

    >>> part_of("a_t2W", [SourceChannel("T2w", 1, 2)]), part_of("a_0000", [SourceChannel("T2w", 1, 2)])
    (Part(base='a', number=0), Part(base='a', number=None))
    """
    for index, channel in enumerate(channels):
        ending = normal(channel.name)
        if normal(case_id).endswith(ending) and len(case_id) > len(ending) + 1:
            base, mark = case_id[: -len(ending) - 1], case_id[-len(ending) - 1]
            if mark in "_-. ":
                return Part(base, index)
    if len(case_id) > 5 and case_id[-5] == "_" and NUMBER.fullmatch(case_id[-4:]):
        named = any(NUMBER.fullmatch(channel.name) for channel in channels)  # these numbers are endings
        numbers = {} if named else {channel.number: index for index, channel in enumerate(channels)}
        return Part(case_id[:-5], numbers.get(int(case_id[-4:])))
    return None


def put_together(cases: Sequence[Case], channels: Sequence[SourceChannel]) -> list[Case]:
    """Make one case of the files of each image's channels; those that lack one are unusable, with the reason.

    A case whose name ends in no channel is left as it is; without `channels` all are. Other channels of an image, by
    nnU-Net's numbers, are left out.
    """
    if not channels:
        return list(cases)
    groups: dict[tuple[Path, str], list[tuple[Part, Case]]] = {}
    for case in cases:
        part = None if case.unusable else part_of(case.id, channels)
        key = (case.image, f"/{case.id}") if part is None else (case.image.parent, part.base)
        groups.setdefault(key, []).append((part or Part("", None), case))
    return [_together(members, channels) for members in groups.values()]


def _together(members: Sequence[tuple[Part, Case]], channels: Sequence[SourceChannel]) -> Case:
    """Return the case of an image's channels."""
    part, case = members[0]
    if not part.base:
        return case
    files: dict[int, list[Case]] = {}
    for each, member in members:
        if each.number is not None:
            files.setdefault(each.number, []).append(member)
    lacking = [channel.name for number, channel in enumerate(channels) if number not in files]
    twice = next((each for each in files.values() if len(each) > 1), None)
    if lacking:
        why = f"lacks the channel {few(lacking, NAMED)}: there is no such file beside it"
        return replace(case, id=part.base, unusable=why)
    if twice is not None:
        one, other = (each.image.name for each in twice[:2])
        return replace(case, id=part.base, unusable=f"has one channel in two files, {one} and {other}; leave one")
    parts = tuple(files[number][0] for number in range(len(channels)))
    return replace(parts[0], id=part.base, channels=parts)


def together(images: Sequence[Image], channels: Sequence[SourceChannel]) -> tuple[list[Image], list[Image]]:
    """Do the same with images and their places; return the images, and those whose name ends in no channel."""
    named: list[Image] = []
    others: list[Image] = []
    for image in images:
        (others if part_of(image.case.id, channels) is None else named).append(image)
    firsts = {image.case.image: image for image in named}
    found = []
    for case in put_together([image.case for image in named], channels):
        first = firsts[case.image]
        found.append(Image(case, _shortened(first.place, len(first.case.id) - len(case.id))))
    return found, others


def _shortened(place: Place, length: int) -> Place:
    """Return a place without the last characters of its name, which may be that of its folder."""
    if len(place.stem) > length:
        return Place(place.path, place.folders, place.stem[:-length])
    return Place(place.path, place.folders[:-1], place.folders[-1]) if place.folders else place


def numbered(cases: Sequence[Case]) -> str:
    """Return a note on cases that nnU-Net would take for the channels of one image; empty if there are none."""
    groups: dict[tuple[Path, str], list[str]] = {}
    for case in cases:
        part = None if case.unusable else part_of(case.id, ())
        if part is not None:
            groups.setdefault((case.image.parent, part.base), []).append(case.id)
    several = [sorted(ids) for ids in groups.values() if len(ids) > 1]
    if not several:
        return ""
    endings = " ".join(name[-4:] for name in several[0])
    return (
        f"{sum(map(len, several))} images are numbered as the channels of {len(several)}, such as "
        f"{few(several[0], NAMED)}: each is taken as an image of its own; --channels {endings} takes them as one"
    )
