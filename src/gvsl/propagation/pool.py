"""Training examples by matching: labels carried onto unlabelled volumes, and atlases warped onto them, kept on disk.

An atlas that is warped onto a volume, its image by the same field as its labels, is a further example of the volume's
anatomy whose labels fit: A. Zhao, G. Balakrishnan, F. Durand, J. V. Guttag and A. V. Dalca. Data Augmentation Using
Learned Transformations for One-Shot Medical Image Segmentation. CVPR 2019. https://arxiv.org/abs/1902.09383
"""

import csv
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from gvsl.cases import IGNORED
from gvsl.errors import UserError
from gvsl.files import whole_file, write_text
from gvsl.geometry import gaussian_smooth, spatial_shape
from gvsl.io import Box
from gvsl.methods import GVSL
from gvsl.propagation.carry import (
    Atlas,
    Carried,
    Teacher,
    Warped,
    combine,
    decided_by,
    labels_by,
    mean_similarity,
    warped_by,
    warped_onto,
)
from gvsl.propagation.match import Matched, Memory, match_volumes
from gvsl.propagation.random_fields import random_like
from gvsl.propagation.templates import other_than
from gvsl.readers import read_json
from gvsl.settings.propagation import Fields, PoolSettings
from gvsl.store import Store

ABOUT_NAME = ".about.json"
"""What the labels in a folder were carried from and by."""
TEMPLATES_NAME = ".templates.json"
"""Ids of the templates, the best match first; no id begins with a dot."""
COLUMNS = ("id", "atlas", "used", "reverse_dice", "checked_on", "similarity", "turned", "fields", "displacement")
LABELS, VOTES, IMAGES = "labels", "votes", "images"
"""Folders of the hard or soft targets and of the images of examples."""
FULL = 255
"""A share of votes of 1 with full confidence, as kept on disk."""
OWN = ""
"""In place of an atlas: the volume's own image."""


@dataclass(frozen=True)
class CarriedCase:
    """A volume that labels were carried onto, or an atlas that was warped onto it."""

    id: str
    """Of the volume."""
    used: bool
    """True if it matched, so that it is trained on."""
    reverse_dice: float | None
    """DSC of the labels carried back onto an atlas."""
    checked_on: str
    """Id of that atlas."""
    similarity: float
    """Mean local similarity with the warped atlases, over the structures, 0 to 1."""
    atlas: str = OWN
    """Id of the atlas whose warped image is trained on, or `OWN`."""
    fields: Fields = "matched"
    """What warped the atlas, or carried the labels."""
    turned: str = ""
    """How the volume seems to be turned or mirrored against the atlas that it was checked on; else empty."""
    displacement: float | None = None
    """Root mean square over the voxels of the field that warped the atlas, in voxels."""


@dataclass(frozen=True)
class CarriedLabels:
    """Examples with carried labels in a folder; those of one volume have its id and its shape."""

    folder: Path
    cases: list[CarriedCase]
    soft: bool = False
    """True if the examples have votes, else they have classes."""

    @cached_property
    def used(self) -> list[str]:
        """Ids of the volumes that matched."""
        return list(self.examples)

    @cached_property
    def examples(self) -> dict[str, list[str]]:
        """The examples of each volume that matched: atlases, or `OWN`."""
        found: dict[str, list[str]] = {}
        for case in self.cases:
            if case.used:
                found.setdefault(case.id, []).append(case.atlas)
        return found

    @property
    def templates(self) -> list[str]:
        """Ids of the templates that voted besides the atlases."""
        path = self.folder / TEMPLATES_NAME
        return read_json(path, list[str]) if path.exists() else []

    @property
    def failed(self) -> list[str]:
        """Ids of the volumes that did not match."""
        return sorted({case.id for case in self.cases} - set(self.examples))

    def classes(self, case: str, atlas: str = OWN, box: Box | None = None) -> NDArray[np.int16]:
        """Return an example's class indices, or a box of them, (D, H, W).

        They are `IGNORED` outside of a warped atlas, and where no atlas has a known class.
        """
        return _read(_path(self.folder, LABELS, case, atlas), box)

    def votes(self, case: str, atlas: str = OWN, box: Box | None = None) -> NDArray[np.float32]:
        """Return an example's votes times their confidence, or a box of them, (classes, D, H, W), in [0, 1].

        Their sum over the classes is the voxel's weight, 0 where `classes` are `IGNORED`.
        """
        within = None if box is None else (slice(None), *box)
        return _read(_path(self.folder, VOTES, case, atlas), within).astype(np.float32) / np.float32(FULL)

    def image(self, case: str, atlas: str, box: Box | None = None) -> NDArray[np.float32]:
        """Return the image of an atlas warped onto a case, or a box of it, (C, D, H, W), in [0, 1]."""
        within = None if box is None else (slice(None), *box)
        return _read(_path(self.folder, IMAGES, case, atlas), within).astype(np.float32)

    def write_table(self, path: Path) -> None:
        """Write a row per example: what it matched, and whether it is trained on."""
        with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, COLUMNS)
            table.writeheader()
            table.writerows(asdict(case) for case in self.cases)


def carry_onto(
    method: GVSL,
    atlases: Sequence[Atlas],
    store: Store,
    targets: Sequence[str],
    folder: Path,
    settings: PoolSettings,
    about: Mapping[str, Any],
    advance: Callable[[], object] = lambda: None,
    templates: Callable[[], Sequence[Atlas]] = tuple,
    teacher: Teacher | None = None,
    seed: int = 0,
) -> CarriedLabels:
    """Carry the labels of atlases onto cases of a store, and keep them in a folder.

    Volumes that were done before are kept if the folder is about the same atlases, method and settings; else it is
    emptied first.

    Args:
        method: with a matching head, on the atlases' device.
        atlases: one or more.
        store: of the volumes.
        targets: their ids.
        folder: created if need be.
        settings: of `carry`, and which images are wanted.
        about: what identifies atlases and method, JSON values.
        advance: called after each volume.
        templates: returns further voters; called once, if labels are carried. One does not vote on itself.
        teacher: of `carry`; `about` tells it.
        seed: of random fields, which also depend on the atlas and the volume.
    """
    about = {**about, **decided_by(atlases, settings)}
    if settings.fields == "random":
        about["seed"] = seed
    expected = json.dumps({**about, "settings": asdict(settings)}, sort_keys=True) + "\n"
    path = folder / ABOUT_NAME
    if folder.exists() and not (path.is_file() and path.read_text(encoding="utf-8") == expected):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, expected)
    kept = {target: _kept(folder, target) for target in targets}
    further = () if all(kept.values()) else templates()
    if further:
        write_text(folder / TEMPLATES_NAME, json.dumps([template.id for template in further]) + "\n")
    voters = _Voters(method, atlases, further, teacher, settings, seed, Memory())
    cases = []
    for target, found in kept.items():
        cases += found or _carry_one(voters, store, target, folder)
        advance()
    return CarriedLabels(folder, cases, soft=settings.targets == "soft")


class _Voters(NamedTuple):
    """What carries labels onto every volume alike."""

    method: GVSL
    atlases: Sequence[Atlas]
    templates: Sequence[Atlas]
    teacher: Teacher | None
    settings: PoolSettings
    seed: int
    memory: Memory


@torch.no_grad()
def _carry_one(voters: _Voters, store: Store, target: str, folder: Path) -> list[CarriedCase]:
    """Write the examples made of a volume, and return what is known of each."""
    method, atlases, _, teacher, settings, _, memory = voters
    image = torch.from_numpy(store.channels(target))[None].to(atlases[0].image.device)
    matches = [match_volumes(method, atlas.image, image, settings, memory) for atlas in atlases]
    warped = [warped_by(match, atlas, spatial_shape(image)) for atlas, match in zip(atlases, matches, strict=True)]
    cases, fused = [], None
    if settings.images != "atlas":
        further = [warped_onto(method, voter, image, settings, memory) for voter in other_than(image, voters.templates)]
        fused = combine(method, atlases, [*warped, *further], image, settings, teacher, memory)
        if settings.targets == "soft":
            _keep_votes(_path(folder, VOTES, target), fused.votes * fused.confidence)
        else:
            _keep(_path(folder, LABELS, target), fused.classes[0, 0], np.int16)
        cases.append(_case(target, fused, settings))
        if len(atlases) + len(further) > 1 or teacher is not None:
            fused = None  # the vote of more than one atlas says nothing of each
    if settings.images != "own":
        for atlas, match, each in zip(atlases, matches, warped, strict=True):
            alone = combine(method, [atlas], [each], image, settings, memory=memory) if fused is None else fused
            about = _case(target, alone, settings, atlas.id)
            cases.append(_keep_warped_atlas(voters, atlas, match, each, image, about, folder))
    write_text(folder / f"{target}.json", json.dumps([asdict(case) for case in cases]) + "\n")
    return cases


def _keep_warped_atlas(
    voters: _Voters, atlas: Atlas, match: Matched, warped: Warped, image: Tensor, about: CarriedCase, folder: Path
) -> CarriedCase:
    """Write an atlas's image and labels, warped together onto a volume, and return what is known of the example."""
    settings, dvf = voters.settings, match.dvf
    if settings.fields == "random" and about.used:
        dvf = random_like(dvf, voters.seed, atlas.id, about.id)
        warped = labels_by(dvf, atlas, match.moving, spatial_shape(image))
    if settings.targets == "soft":
        _keep_votes(_path(folder, VOTES, about.id, atlas.id), warped.labels * warped.known)
    else:
        classes = warped.labels.argmax(dim=1, keepdim=True).where(warped.known, IGNORED)
        _keep(_path(folder, LABELS, about.id, atlas.id), classes[0, 0], np.int16)
    _keep(_path(folder, IMAGES, about.id, atlas.id), _with_appearance(warped, image, settings)[0], np.float16)
    strength = float(dvf.square().sum(dim=1).mean().sqrt())
    return replace(about, fields=settings.fields, displacement=strength)


def _case(target: str, carried: Carried, settings: PoolSettings, atlas: str = OWN) -> CarriedCase:
    return CarriedCase(
        target,
        carried.matches(settings.least_dice),
        carried.reverse_dice,
        carried.checked_on,
        mean_similarity(carried),
        atlas=atlas,
        turned=carried.turned,
    )


def _with_appearance(warped: Warped, image: Tensor, settings: PoolSettings) -> Tensor:
    """Return a warped atlas's image, with the smooth difference from a volume's added if that is set."""
    if not settings.appearance:
        return warped.image
    return (warped.image + gaussian_smooth(image - warped.image, settings.appearance)).clamp(0, 1)


def _kept(folder: Path, target: str) -> list[CarriedCase]:
    """Return what an earlier call found for a volume, empty if it did not finish it."""
    about = folder / f"{target}.json"
    if not about.is_file():
        return []
    try:
        return [CarriedCase(**case) for case in read_json(about, list[dict[str, Any]])]
    except (OSError, TypeError, ValueError) as error:
        raise UserError(f"{about} is damaged ({error}): remove {folder}, and run again") from None


def _path(folder: Path, kind: str, case: str, atlas: str = OWN) -> Path:
    return folder / kind / (f"from {atlas}" if atlas else "own") / f"{case}.npy"


def _keep(path: Path, volume: Tensor, kind: DTypeLike) -> None:
    """Write a volume as an array of a type."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        np.save(temporary, volume.cpu().numpy().astype(kind), allow_pickle=False)


def _keep_votes(path: Path, votes: Tensor) -> None:
    _keep(path, (votes[0] * FULL).round(), np.uint8)


def _read(path: Path, box: tuple[slice, ...] | None) -> NDArray[Any]:
    whole = np.load(path, mmap_mode="r", allow_pickle=False)
    return np.array(whole if box is None else whole[box])
