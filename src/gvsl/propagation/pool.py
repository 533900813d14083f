"""Labels carried onto the unlabelled volumes of a store, kept on disk to train on."""

import csv
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gvsl.files import whole_file, write_text
from gvsl.io import Box
from gvsl.methods import GVSL
from gvsl.propagation.carry import Atlas, Carried, carry
from gvsl.settings.propagation import PropagationSettings
from gvsl.store import Store

ABOUT_NAME = ".about.json"
"""What the labels in a folder were carried from and by."""
COLUMNS = ("id", "used", "reverse_dice", "checked_on", "similarity")


@dataclass(frozen=True)
class CarriedCase:
    """A volume that labels were carried onto."""

    id: str
    used: bool
    """True if it matched, so that it is trained on."""
    reverse_dice: float | None
    """DSC of the labels carried back onto an atlas."""
    checked_on: str
    """Id of that atlas."""
    similarity: float
    """Mean local similarity with the warped atlases, over the structures, 0 to 1."""


@dataclass(frozen=True)
class CarriedLabels:
    """Carried label maps in a folder."""

    folder: Path
    cases: list[CarriedCase]

    @cached_property
    def used(self) -> list[str]:
        """Ids of the volumes that matched."""
        return [case.id for case in self.cases if case.used]

    def classes(self, case: str, box: Box | None = None) -> NDArray[np.int16]:
        """Return a case's class indices, or a box of them, (D, H, W)."""
        whole = np.load(_path(self.folder, case), mmap_mode="r", allow_pickle=False)
        return np.array(whole if box is None else whole[box])

    def write_table(self, path: Path) -> None:
        """Write a row per volume: what it matched, and whether it is trained on."""
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
    settings: PropagationSettings,
    about: Mapping[str, Any],
    advance: Callable[[], object] = lambda: None,
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
        settings: of `carry`.
        about: what identifies atlases and method, JSON values.
        advance: called after each volume.
    """
    expected = json.dumps({**about, "settings": asdict(settings)}, sort_keys=True) + "\n"
    path = folder / ABOUT_NAME
    if folder.exists() and not (path.is_file() and path.read_text(encoding="utf-8") == expected):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, expected)
    cases = []
    for target in targets:
        cases.append(_kept(folder, target) or _carry_one(method, atlases, store, target, folder, settings))
        advance()
    return CarriedLabels(folder, cases)


def _carry_one(
    method: GVSL, atlases: Sequence[Atlas], store: Store, target: str, folder: Path, settings: PropagationSettings
) -> CarriedCase:
    device = atlases[0].image.device
    carried = carry(method, atlases, torch.from_numpy(store.channels(target))[None].to(device), settings)
    failed = carried.reverse_dice is not None and carried.reverse_dice < settings.least_dice
    case = CarriedCase(target, not failed, carried.reverse_dice, carried.checked_on, mean_similarity(carried))
    with whole_file(_path(folder, target)) as temporary:
        np.save(temporary, carried.classes[0, 0].cpu().numpy().astype(np.int16), allow_pickle=False)
    write_text(folder / f"{target}.json", json.dumps(asdict(case)) + "\n")
    return case


def _kept(folder: Path, target: str) -> CarriedCase | None:
    """Return what an earlier call found for a volume, if it finished it."""
    about = folder / f"{target}.json"
    if not about.is_file():
        return None
    return CarriedCase(**json.loads(about.read_text(encoding="utf-8")))


def _path(folder: Path, case: str) -> Path:
    return folder / f"{case}.npy"


def mean_similarity(carried: Carried) -> float:
    """Return the mean local similarity over the carried structures, 0 without any."""
    structures = carried.votes[:, 1:].sum(dim=1, keepdim=True)
    weight = float(structures.sum())
    return float((carried.similarity * structures).sum()) / weight if weight else 0.0
