"""Evaluation of a pre-trained method on held-out volumes: matching of pairs, restoration, and its own pretext."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gvsl.backbones.compatibility import check_preprocessing
from gvsl.backbones.weights import PretrainedBackbone
from gvsl.data import read_crop
from gvsl.data.crop import Shape
from gvsl.files import claimed
from gvsl.methods import GVSL
from gvsl.methods.load_method import load_method
from gvsl.methods.restoration import Restoration
from gvsl.records import RECORD_NAME, RunRecord, read_record, write_record
from gvsl.records.matching import has_controls
from gvsl.records.volumes import write_arrays
from gvsl.splits import some_of
from gvsl.store import Store
from gvsl.text import note
from gvsl.training.matched_pairs import MatchedPair, match_pairs, pair_metrics, pair_picture, pair_volumes, plane
from gvsl.training.matching_controls import control_metrics
from gvsl.training.pretrain import COMMAND

MOST = 50
"""Maximum number of volumes that a run is measured on; the fields of their pairs are kept in memory together."""
TRAINED = "pretrain"
"""What the names of metrics begin with that are of volumes that the run was trained on, whatever their split."""
PICTURED_PAIRS = 3
PICTURED_RESTORATIONS = 2
DAMAGE_DRAWS = 16
"""Draws of damage of which one is pictured."""


def evaluate_pretraining(run: Path, store: Store, split: str = "val") -> RunRecord:
    """Add metrics and pictures of held-out volumes to a run's record.

    A method that matches pairs is given each volume of the split once as the fixed one, with the next one of another
    subject as the moving one; `gvsl.training.matching_controls` measures what would score as well without matching.
    Labels, if there are any, only measure the overlap; nothing is chosen by it.

    Args:
        run: the folder of a finished pre-training.
        store: with the preprocessing that the weights were trained on.
        split: whose volumes are used, at most `MOST`; if it has none, or a single subject for a method that matches,
            those that were trained on are used, which a note says, and the metrics' names begin with `pretrain`.

    Raises:
        UserError: the run is not finished, or the store's preprocessing differs.
    """
    with claimed(run, COMMAND, deep=(run / RECORD_NAME).is_file()):
        return _evaluate(run, store, split)


def _evaluate(run: Path, store: Store, split: str) -> RunRecord:
    record = read_record(run)
    method = load_method(run)
    assert isinstance(method.backbone, PretrainedBackbone)  # load_method puts it there
    check_preprocessing(method.backbone, run, store)
    matches = isinstance(method, GVSL) and method.matching is not None
    measured = _usable_split(store, split, record.config["data"].get("split", TRAINED), pairs=matches)
    split = split if measured == split else TRAINED
    members = store.split(measured)
    ids = some_of(members, MOST)
    if len(members) > MOST:
        note(f"{run} is measured on {MOST} of the {len(members)} volumes of {measured}, drawn at random")
    crop: Shape = tuple(record.config["data"]["crop"])
    record.cases, record.pictures, record.volumes = [], [], []
    if isinstance(method, GVSL) and matches and len(ids) > 1:
        _evaluate_matching(method, record, run, match_pairs(method.match, store, ids, crop), split)
    if isinstance(method, Restoration) or (isinstance(method, GVSL) and method.restoration is not None):
        for index, case in enumerate(ids[:PICTURED_RESTORATIONS]):
            picture = restore_case(method, store, case, crop, seed=index)
            file, title = f"pictures/restoration-{index}.npz", f"{case} ({split})"
            record.pictures.append(write_arrays(run, file, picture, "restoration", title))
    generator = torch.Generator().manual_seed(record.seed)
    metrics = method.held_out((read_crop(store, case, crop) for case in ids), generator)
    record.metrics |= {f"{split}/{name}": value for name, value in metrics.items()}
    for name in dict.fromkeys(name for row in record.cases for name in row if name != "id"):
        # A pair has no Dice if either volume has no label map.
        record.metrics[f"{split}/{name}"] = float(np.mean([row[name] for row in record.cases if name in row]))
    record.labels = {str(value): name for value, name in store.label_names.items()}
    write_record(record, run)
    return record


def _usable_split(store: Store, split: str, trained: str, *, pairs: bool) -> str:
    """Return the split, or that trained on and a note about it, if it has no volume, or no pair where that counts."""
    ids = [case.id for case in store.cases.values() if split in case.splits]
    if len(set(store.subjects(ids))) > (1 if pairs else 0):
        return split
    lack = "one subject, and a pair needs two" if ids else "no volume"
    note(
        f"the split {split} of {store.place} has {lack}: the run is measured on volumes of {trained}, which it was "
        "trained on"
    )
    return trained


def awaits_evaluation(run: Path) -> bool:
    """Return True if a pre-training finished, but was not evaluated, or its matching not on pairs or not with controls.

    Runs of an earlier gvsl whose store has one volume in `val` lack the pairs.
    """
    if not (run / RECORD_NAME).is_file():
        return False
    record = read_record(run)
    evaluated = record.pictures or any(not name.startswith("train/") for name in record.metrics)
    pretext = record.config.get("pretext") or {}
    lacks_pairs = pretext.get("matching") is True and not record.cases
    return record.status == "finished" and not (evaluated and has_controls(record.cases) and not lacks_pairs)


@torch.no_grad()
def restore_case(method: GVSL | Restoration, store: Store, case: str, crop: Shape, seed: int) -> dict[str, Any]:
    """Damage a volume by the method's own transforms, restore it, and return the arrays of its picture.

    Of a few draws the one is shown that damages the central planes, which are pictured, most.
    """
    volume = read_crop(store, case, crop)[None]
    generator = torch.Generator().manual_seed(seed)
    draws = [method.damage(volume, generator) for _ in range(DAMAGE_DRAWS)]
    damaged, original = max(draws, key=lambda draw: _least_damage(*draw))
    arrays = {"original": original, "damaged": damaged, "restored": method.restore(damaged)}
    return {
        f"{name}_{axis}": plane(value[0, 0], axis, crop[axis] // 2)
        for axis in range(3)
        for name, value in arrays.items()
    }


def _least_damage(damaged: Tensor, original: Tensor) -> float:
    """Return the fraction of changed voxels in that central plane that changed least."""
    changed = (damaged != original)[0, 0].float()
    return min(float(changed.select(axis, side // 2).mean()) for axis, side in enumerate(changed.shape))


def _evaluate_matching(method: GVSL, record: RunRecord, run: Path, pairs: list[MatchedPair], split: str) -> None:
    """Add each pair's metrics, those of its controls, and pictures of the first pairs to a record."""
    for index, (pair, controls) in enumerate(zip(pairs, control_metrics(pairs, method.ncc), strict=True)):
        metrics = pair_metrics(pair, method.ncc) | controls
        record.cases.append({"id": f"{pair.moving_id}->{pair.fixed_id}", **metrics})
        if index < PICTURED_PAIRS:
            file, title = f"pair-{index}.npz", f"{pair.moving_id} onto {pair.fixed_id} ({split})"
            picture = pair_picture(pair) | metrics
            record.pictures.append(write_arrays(run, f"pictures/{file}", picture, "pair", title))
            record.volumes.append(write_arrays(run, f"volumes/{file}", pair_volumes(pair), "pair", title))
