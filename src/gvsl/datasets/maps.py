"""Volumes told apart by name: images, label maps, and maps that are neither."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from gvsl.cases import Case
from gvsl.datasets.names import is_label_folder, names_label, names_map, names_tissue, normal
from gvsl.datasets.pairing import Pairs
from gvsl.datasets.places import joined, stem

LABEL_FOLDERS = ("labels", "labelstr", "labelsts", "annotations", "segmentations", "masks", "derivatives")
"""Names of folders of label maps or results, in lower case, whose volumes are never taken for images."""
LAYOUT = "; if it has one map per structure beside ct.nii.gz, give --dataset totalsegmentator"
LABEL_ENDING = re.compile(r"[-_.](label|labels|seg|dseg|segmentation|mask)$", re.IGNORECASE)
"""Name endings of label maps, which are never taken for images beside them."""


def kinds_of(volumes: Sequence[Path], root: Path) -> dict[Path, str]:
    """Return what each volume is by its name.

    "folder": in a folder of label maps; "map": a statistical map or the like; "ending": a label map among images;
    "word": perhaps a label map, which its voxels decide; "image": nothing of these.
    """
    beside: dict[Path, set[str]] = {}
    for path in volumes:
        beside.setdefault(path.parent, set()).add(normal(stem(path)))
    kinds = {}
    for path in volumes:
        name = stem(path)
        if label_depth(path, root):
            kinds[path] = "folder"
        elif names_map(name):
            kinds[path] = "map"
        elif LABEL_ENDING.search(name) and not all(LABEL_ENDING.search(other) for other in beside[path.parent]):
            kinds[path] = "ending"
        elif (
            names_label(name)
            or any(map(is_label_folder, path.relative_to(root).parent.parts))
            or names_tissue(name, beside[path.parent])
        ):
            kinds[path] = "word"
        else:
            kinds[path] = "image"
    if "image" not in kinds.values():  # a folder of maps alone is what was asked for
        kinds = {path: "image" if kind == "map" else kind for path, kind in kinds.items()}
    return kinds


def refused_maps(volumes: Sequence[Path], kinds: Mapping[Path, str], root: Path, found: Pairs) -> list[Case]:
    """Return a case to refuse for each map among images, and one per folder of label maps."""
    cases = []
    for path in volumes:
        if kinds[path] == "map":
            reason = (
                "is a statistical, probability or atlas map by its name; take it out, or rename it if it is an image"
            )
        elif kinds[path] == "ending":
            why = found.others.get(path, "among images")
            reason = f"is a label map by its name, {why}; put it into labels/ under its image's name, or rename it"
        else:
            continue
        cases.append(Case(joined(path, root), path, unusable=reason))
    inside = [path for path in volumes if kinds[path] == "folder"]
    folders = Counter(root.joinpath(*path.relative_to(root).parts[: label_depth(path, root)]) for path in inside)
    return cases + [
        Case(
            joined(folder, root),
            folder,
            unusable=f"holds label maps or results by its name ({count} volumes), not images; rename it, or prepare it "
            "separately" + (LAYOUT if count > 1 and folder.name.lower() == "segmentations" else ""),
        )
        for folder, count in folders.items()
    ]


def label_depth(path: Path, root: Path) -> int:
    """Return how many folders below `root` the topmost folder of label maps above a file lies, 0 if there is none."""
    folders = path.relative_to(root).parent.parts
    return next((depth for depth, name in enumerate(folders, 1) if name.lower() in LABEL_FOLDERS), 0)
