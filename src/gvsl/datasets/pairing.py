"""Label maps matched to their images, by name and, where a name leaves it open, by grid and voxels."""

import difflib
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gvsl.cases import Case
from gvsl.datasets.names import image_keys, label_keys
from gvsl.io import UnusableFile, may_begin_label_map, peek, same_grid

SAMPLE = 2**20
"""Number of voxels by which a file is recognised as a label map, from its beginning."""
CLOSE = 8
"""Number of images with a similar name, in alphabetical order, among which the nearest is chosen."""


@dataclass(frozen=True)
class Place:
    """Where a volume lies below its root: its folders and its name without suffix."""

    path: Path
    folders: tuple[str, ...]
    stem: str

    @property
    def id(self) -> str:
        """The folders and the stem, joined by "_"."""
        return "_".join([*self.folders, self.stem] if self.stem else self.folders)


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
        self.levels: list[dict[str, list[Image]]] = [defaultdict(list) for _ in range(3)]
        self.stems: list[dict[str, list[Image]]] = [defaultdict(list) for _ in range(3)]
        self.folders: dict[Path, list[Image]] = defaultdict(list)
        for image in images:
            self.by_id[image.case.id].append(image)
            if image.alias:
                self.aliases[image.alias].append(image)
            self.folders[image.place.path.parent].append(image)
            for level, key in enumerate(image_keys(image.place.folders, image.place.stem)):
                self.levels[level][key].append(image)
            for level, key in enumerate(image_keys((), image.place.stem)):
                self.stems[level][key].append(image)
        self.sorted = sorted(self.levels[0])

    def pair(self, labels: Sequence[Place], given: bool) -> Pairs:
        """Match label maps to images.

        Args:
            labels: the label maps.
            given: True if they lie in a folder for label maps, so that a name with one image is enough; else a label
                map must also lie on its image's grid and begin with label values.
        """
        claims: dict[str, list[Place]] = defaultdict(list)
        exact: dict[str, list[Place]] = defaultdict(list)
        pairs = Pairs()
        for label in labels:
            if given and label.id in self.by_id:
                exact[label.id].append(label)
                continue
            found = self.candidates(label)
            if not found:
                pairs.others[label.path] = f"without an image{self.nearest(label)}"
                continue
            fitting = found if given and len(found) == 1 else [image for image in found if fits(image, label)]
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

    def candidates(self, label: Place) -> list[Image]:
        """Return the images that a label map's name may mean."""
        if label.id in self.aliases:
            return self.aliases[label.id]
        keys = label_keys(label.folders, label.stem)
        for key in keys:
            for level in self.levels:
                if key in level:
                    return level[key]
        alone = self.folders.get(label.path.parent, [])
        if len(alone) == 1 and len(set(keys)) > 1:  # named as a label map, in the folder of one image
            return alone
        for key in label_keys((), label.stem):
            for level in self.stems:
                found = level.get(key, []) if key else []
                if len({image.place.path.parent for image in found}) == 1:
                    return found
        return []

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
    """Return True if a file begins with label values and has the image's grid."""
    try:
        grid, sample = peek(label.path, count=SAMPLE)
        return may_begin_label_map(sample) and same_grid(peek(image.case.image, image.case.parts)[0], grid)
    except UnusableFile:
        return False
