"""Label maps matched to their images, by name and, where a name leaves it open, by grid and voxels."""

import difflib
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from gvsl.cases import Case
from gvsl.datasets.names import image_keys, label_keys
from gvsl.datasets.places import Place
from gvsl.io import UnusableFile, looks_like_labels, peek, same_grid

SAMPLE = 2**20
"""Number of voxels, in its middle, by which a file is recognised as a label map."""
MAX_CHANNELS = 8
"""Limit for the images that share a label map; a name that more have tells nothing."""
CLOSE = 8
"""Number of images with a similar name, in alphabetical order, among which the nearest is chosen."""


@dataclass(frozen=True)
class Image:
    """A case, and where its image lies."""

    case: Case
    place: Place
    alias: str = ""
    """Another id by which splits and label maps may mean it."""


@dataclass
class Pairs:
    """Label maps by the id of their case, and for the others why they are not used, to follow "is a label map"."""

    labels: dict[str, Path] = field(default_factory=dict)
    others: dict[Path, str] = field(default_factory=dict)


class Matcher:
    """The images of a source, by the keys of their names."""

    def __init__(self, images: Sequence[Image]) -> None:
        self.images = images
        self.by_id: dict[str, list[Image]] = defaultdict(list)
        self.aliases: dict[str, list[Image]] = defaultdict(list)
        for image in images:
            self.by_id[image.case.id].append(image)
            if image.alias:
                self.aliases[image.alias].append(image)

    @cached_property
    def levels(self) -> list[dict[str, list[Image]]]:
        """The images by each of their keys."""
        return self._index(lambda place: image_keys(place.folders, place.stem))

    @cached_property
    def stems(self) -> list[dict[str, list[Image]]]:
        """The images by each key of their name alone."""
        return self._index(lambda place: image_keys((), place.stem))

    @cached_property
    def folders(self) -> dict[Path, list[Image]]:
        """The images by their folder."""
        found: dict[Path, list[Image]] = defaultdict(list)
        for image in self.images:
            found[image.place.path.parent].append(image)
        return found

    @cached_property
    def sorted(self) -> list[str]:
        """The most specific keys in alphabetical order."""
        return sorted(self.levels[0])

    def _index(self, keys_of: Callable[[Place], list[str]]) -> list[dict[str, list[Image]]]:
        found: list[dict[str, list[Image]]] = [defaultdict(list) for _ in range(3)]
        for image in self.images:
            for level, key in zip(found, keys_of(image.place), strict=True):
                level[key].append(image)
        return found

    def pair(self, labels: Sequence[Place], given: bool) -> Pairs:
        """Match label maps to images.

        Args:
            labels: the label maps.
            given: True if they lie in a folder for label maps, so that the name of one image is enough; else a label
                map must also lie on its image's grid and hold label values.
        """
        claims: dict[str, list[Place]] = defaultdict(list)
        exact: dict[str, list[Place]] = defaultdict(list)
        pairs = Pairs()
        for label in labels:
            if given and label.id in self.by_id:
                exact[label.id].append(label)
                continue
            found, sure = self.candidates(label)
            if not found:
                pairs.others[label.path] = f"without an image{self.nearest(label)}"
                continue
            fitting = found if given and sure and len(found) == 1 else [image for image in found if fits(image, label)]
            if not fitting:
                pairs.others[label.path] = f"that has no label values on the grid of {found[0].place.path.name}"
            for image in fitting:
                claims[image.case.id].append(label)
        for case_id in exact.keys() | claims.keys():
            first = exact[case_id] or claims[case_id]
            if len(first) == 1:
                pairs.labels[case_id] = first[0].path
        self._explain(claims, pairs)
        return pairs

    def _explain(self, claims: dict[str, list[Place]], pairs: Pairs) -> None:
        """Say of label maps that no case uses why."""
        used = set(pairs.labels.values())
        for case_id, places in claims.items():
            name = self.by_id[case_id][0].place.path.name
            for place in places:
                if place.path in used:
                    continue
                if case_id in pairs.labels:
                    text = f"of {name} too, but {pairs.labels[case_id].name} is used"
                else:
                    text = f"of {name}, one of {len(places)}; leave one, or join them into one"
                pairs.others[place.path] = text

    def candidates(self, label: Place) -> tuple[list[Image], bool]:
        """Return the images that a label map's name may mean, and True if its folders say the same."""
        if label.id in self.aliases:
            return self.aliases[label.id], True
        for key in label_keys(label.folders, label.stem):
            for level in self.levels:
                if 0 < len(level.get(key, [])) <= MAX_CHANNELS:
                    return level[key], True
        alone = self.folders.get(label.path.parent, [])
        if len(alone) == 1 and "" in label_keys((), label.stem):  # no more than "mask", in the folder of one image
            return alone, False
        for key in label_keys((), label.stem):
            if not key or (label_keys(label.folders, "") != [""] and not key.startswith("sub-")):
                continue
            for level in self.stems:
                found = level.get(key, [])
                if len({image.place.path.parent for image in found}) == 1 and len(found) <= MAX_CHANNELS:
                    return found, False
        return [], False

    def nearest(self, label: Place) -> str:
        """Name the image with the most similar name."""
        if not self.sorted:
            return ""
        key = label_keys(label.folders, label.stem)[-1]
        at = bisect_left(self.sorted, key)
        near = self.sorted if len(self.sorted) <= 10 * CLOSE else self.sorted[max(0, at - CLOSE) : at + CLOSE]
        best = max(near, key=lambda name: difflib.SequenceMatcher(None, key, name).ratio())
        return f"; the nearest is {self.levels[0][best][0].place.path.name}"

    def resolve(self, name: str) -> list[str]:
        """Return the ids of the cases that a name in splits.json or classes.json may mean."""
        if name in self.by_id:
            return [name]
        key = image_keys((), name)[0]
        for found in (self.aliases.get(name, []), self.levels[0].get(key, []), self.levels[1].get(key, [])):
            if found and len({image.place.path.parent for image in found}) == 1:
                return sorted({image.case.id for image in found})
        return []


def fits(image: Image, label: Place) -> bool:
    """Return True if a file holds label values, as far as its middle shows, and has the image's grid."""
    try:
        grid, sample = peek(label.path, count=SAMPLE)
        return looks_like_labels(sample) and same_grid(peek(image.case.image, image.case.parts)[0], grid)
    except UnusableFile:
        return False
