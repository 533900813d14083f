"""Evaluation of a pre-trained method on held-out volumes: matching of pairs, restoration, and its own pretext."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gvsl.augment import change_appearance, draw_appearance
from gvsl.backbones.compatibility import check_preprocessing
from gvsl.backbones.weights import PretrainedUNet3D
from gvsl.data import centre_crop, foreground_centre, read_crop
from gvsl.data.crop import Shape
from gvsl.geometry import identity_grid, nonpositive_jacobian_fraction, warp
from gvsl.methods import GVSL
from gvsl.methods.restoration import Restoration
from gvsl.metrics.dice import dice_per_structure
from gvsl.records import RECORD_NAME, RunRecord, read_record, write_record
from gvsl.records.volumes import Volumes, matched_volumes, write_arrays
from gvsl.store import Store
from gvsl.training.load_method import load_method

PICTURED_PAIRS = 3
PICTURED_RESTORATIONS = 2


def evaluate_pretraining(run: Path, store: Store, split: str = "val") -> RunRecord:
    """Add metrics and pictures of held-out volumes to a run's record.

    A method that matches pairs is given each volume of the split once as the fixed one, with the next as the moving
    one. Labels, if there are any, only measure the overlap; nothing is chosen by it.

    Args:
        run: the folder of a finished pre-training.
        store: with the preprocessing that the weights were trained on.
        split: whose volumes are used; if the store has no such split, `pretrain` is used and named in the metrics.

    Raises:
        UserError: the run is not finished, or the store's preprocessing differs.
    """
    record = read_record(run)
    method = load_method(run)
    assert isinstance(method.backbone, PretrainedUNet3D)  # load_method puts it there
    check_preprocessing(method.backbone, run, store)
    if not any(split in case.splits for case in store.cases.values()):
        split = "pretrain"
    ids = store.split(split)
    crop: Shape = tuple(record.config["data"]["crop"])
    record.cases, record.pictures, record.volumes = [], [], []
    if isinstance(method, GVSL) and method.matching is not None and len(ids) > 1:
        for index, (moving, fixed) in enumerate(zip(ids[1:] + ids[:1], ids, strict=True)):
            row, picture, volumes = match_pair(method, store, moving, fixed, crop)
            record.cases.append(row)
            if index < PICTURED_PAIRS:
                file, title = f"pair-{index}.npz", f"{moving} onto {fixed} ({split})"
                record.pictures.append(write_arrays(run, f"pictures/{file}", picture, "pair", title))
                record.volumes.append(write_arrays(run, f"volumes/{file}", volumes, "pair", title))
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


def awaits_evaluation(run: Path) -> bool:
    """Return True if a pre-training finished but `evaluate_pretraining` did not."""
    if not (run / RECORD_NAME).is_file():
        return False
    record = read_record(run)
    evaluated = record.pictures or any(not name.startswith("train/") for name in record.metrics)
    return record.status == "finished" and not evaluated


@torch.no_grad()
def match_pair(
    method: GVSL, store: Store, moving: str, fixed: str, crop: Shape
) -> tuple[dict[str, Any], dict[str, Any], Volumes]:
    """Match one pair, and return its metrics, the arrays of its picture, and the volumes for the viewer.

    The metrics are the three NCC losses (1 - mean), the fraction of voxels with a non-positive Jacobian and, with
    labels, the mean Dice of the structures before and after; labels are warped by nearest-neighbour interpolation.
    """
    image, target = (read_crop(store, case, crop)[None] for case in (moving, fixed))
    matching = method.match(image, target)
    row: dict[str, Any] = {
        "id": f"{moving}->{fixed}",
        "ncc": float(method.ncc(image, target, matching.dvf)),
        "ncc_affine": float(method.ncc(image, target, matching.affine)),
        "ncc_identity": float(method.ncc(image, target, None)),
        "folded": float(nonpositive_jacobian_fraction(matching.dvf)),
    }
    arrays = {
        "moving": image,
        "fixed": target,
        "affine": warp(image, matching.affine),
        "warped": warp(image, matching.dvf),
    }
    if store.has_label(moving) and store.has_label(fixed):
        label, truth = (_label_crop(store, case, crop) for case in (moving, fixed))
        warped = warp(label.float(), matching.dvf, mode="nearest").to(label.dtype)
        classes = 1 + len(store.label_names)
        row["dice_before"] = float(np.mean(dice_per_structure(label, truth, classes)))
        row["dice_after"] = float(np.mean(dice_per_structure(warped, truth, classes)))
        arrays |= {"moving_label": label, "fixed_label": truth, "warped_label": warped}
    picture: dict[str, Any] = {name: row[name] for name in row if name not in ("id", "folded")}
    positions = identity_grid(crop, dtype=torch.float32, device="cpu")[0] + matching.dvf[0]
    for axis, index in enumerate(_centre(arrays.get("fixed_label"), crop)):
        picture |= {f"{name}_{axis}": _plane(value[0, 0], axis, index) for name, value in arrays.items()}
        in_plane = [other for other in range(3) if other != axis]
        picture[f"grid_{axis}"] = np.stack([_plane(positions[other], axis, index) for other in in_plane])
    shown = (image[0, 0], target[0, 0], arrays["warped"][0, 0], matching.dvf[0])
    return row, picture, matched_volumes(*(part.numpy() for part in shown))


@torch.no_grad()
def restore_case(method: GVSL | Restoration, store: Store, case: str, crop: Shape, seed: int) -> dict[str, Any]:
    """Damage a volume by the method's own transforms, restore it, and return the arrays of its picture."""
    original = read_crop(store, case, crop)[None]
    generator = torch.Generator().manual_seed(seed)
    if isinstance(method, Restoration):
        damaged, original = method.damage(original, generator)
    else:
        settings = replace(method.settings.appearance, shuffle_rate=1.0, intensity_rate=1.0, inpaint_rate=1.0)
        damaged = change_appearance(original, draw_appearance(1, crop, settings, generator))
    arrays = {"original": original, "damaged": damaged, "restored": method.restore(damaged)}
    return {
        f"{name}_{axis}": _plane(value[0, 0], axis, crop[axis] // 2)
        for axis in range(3)
        for name, value in arrays.items()
    }


def _label_crop(store: Store, case: str, crop: Shape) -> Tensor:
    """Return a case's structures as class indices, 0 the background: (1, 1, D, H, W)."""
    known = store.cases[case]
    voxels = centre_crop(lambda box: store.label(case, box), known.shape, crop, foreground_centre(known))
    return torch.from_numpy(np.searchsorted([0, *sorted(store.label_names)], voxels))[None, None]


def _centre(label: Tensor | None, crop: Shape) -> Shape:
    """Return the voxel through which the picture's planes pass: the labels' centre of mass, or the volume's centre."""
    if label is None or not bool(label.any()):
        return crop[0] // 2, crop[1] // 2, crop[2] // 2
    middle = (label[0, 0] > 0).nonzero().float().mean(dim=0).round().long().tolist()
    return middle[0], middle[1], middle[2]


def _plane(volume: Tensor, axis: int, index: int) -> np.ndarray[Any, Any]:
    return volume.select(axis, index).numpy()
