"""What a pre-trained method makes of volumes that it never saw: of pairs, of damaged ones, by its own pretext."""

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
from gvsl.files import whole_file
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
    """Add figures and pictures of held-out volumes to a run's record: of pairs, where it matches, and of its pretext.

    Each volume of the split is the fixed one once, with the next as the moving one. Labels, where there are any,
    are only carried across to measure the overlap; nothing is chosen by it.

    Args:
        run: the folder of a finished pre-training.
        store: prepared by the contract that the weights were trained on.
        split: whose volumes are matched; `pretrain` stands in, and is named, where a store has no such split.

    Raises:
        UserError: the run is not finished, or the store keeps another contract.
    """
    record = read_record(run)
    method = load_method(run)
    assert isinstance(method.backbone, PretrainedUNet3D)  # load_method puts it there
    check_preprocessing(method.backbone, run, store)
    split, ids = _held_out(store, split)
    crop: Shape = tuple(record.config["data"]["crop"])
    rows: list[dict[str, Any]] = []
    record.pictures, record.volumes = [], []
    if isinstance(method, GVSL) and method.matching is not None and len(ids) > 1:
        for index, (moving, fixed) in enumerate(zip(ids[1:] + ids[:1], ids, strict=True)):
            row, picture, volumes = match_pair(method, store, moving, fixed, crop)
            rows.append(row)
            if index < PICTURED_PAIRS:
                name, title = f"pictures/pair-{index}.npz", f"{moving} onto {fixed} ({split})"
                _write_picture(run / name, picture)
                record.pictures.append({"file": name, "kind": "pair", "title": title})
                record.volumes.append(write_arrays(run, f"volumes/pair-{index}.npz", volumes, "pair", title))
    if isinstance(method, Restoration) or (isinstance(method, GVSL) and method.restoration is not None):
        for index, case in enumerate(ids[:PICTURED_RESTORATIONS]):
            name = f"pictures/restoration-{index}.npz"
            _write_picture(run / name, restore_case(method, store, case, crop, seed=index))
            record.pictures.append({"file": name, "kind": "restoration", "title": f"{case} ({split})"})
    record.cases = rows
    generator = torch.Generator().manual_seed(record.seed)
    figures = method.held_out((read_crop(store, case, crop) for case in ids), generator)
    record.metrics |= {f"{split}/{name}": value for name, value in figures.items()}
    for name in dict.fromkeys(name for row in rows for name in row if name != "id"):
        # A pair of which one volume has no label map has no Dice.
        record.metrics[f"{split}/{name}"] = float(np.mean([row[name] for row in rows if name in row]))
    record.labels = {str(value): name for value, name in store.label_names.items()}
    write_record(record, run)
    return record


def awaits_evaluation(run: Path) -> bool:
    """Whether a pre-training ended and was stopped before `evaluate_pretraining` did."""
    if not (run / RECORD_NAME).is_file():
        return False
    record = read_record(run)
    evaluated = record.pictures or any(not name.startswith("train/") for name in record.metrics)
    return record.status == "finished" and not evaluated


@torch.no_grad()
def match_pair(
    method: GVSL, store: Store, moving: str, fixed: str, crop: Shape
) -> tuple[dict[str, Any], dict[str, Any], Volumes]:
    """Match one pair: its figures, the arrays of its picture, and the volumes for the viewer.

    The figures are the three NCC losses (1 - mean), the share of folded voxels and, with labels, the mean Dice of
    the structures before and after. Labels are carried across by nearest-neighbour interpolation.
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
        carried = warp(label.float(), matching.dvf, mode="nearest").to(label.dtype)
        classes = 1 + len(store.label_names)
        row["dice_before"] = float(np.mean(dice_per_structure(label, truth, classes)))
        row["dice_after"] = float(np.mean(dice_per_structure(carried, truth, classes)))
        arrays |= {"moving_label": label, "fixed_label": truth, "warped_label": carried}
    centre = _centre(arrays.get("fixed_label"), crop)
    picture: dict[str, Any] = {name: row[name] for name in row if name not in ("id", "folded")}
    positions = identity_grid(crop, dtype=torch.float32, device="cpu")[0] + matching.dvf[0]
    for axis, index in enumerate(centre):
        picture |= {f"{name}_{axis}": _plane(value[0, 0], axis, index) for name, value in arrays.items()}
        in_plane = [other for other in range(3) if other != axis]
        picture[f"grid_{axis}"] = np.stack([_plane(positions[other], axis, index) for other in in_plane])
    shown = (image[0, 0], target[0, 0], arrays["warped"][0, 0], matching.dvf[0])
    return row, picture, matched_volumes(*(part.numpy() for part in shown))


@torch.no_grad()
def restore_case(method: GVSL | Restoration, store: Store, case: str, crop: Shape, seed: int) -> dict[str, Any]:
    """Damage a volume by the method's own transforms and restore it: the arrays of its picture."""
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


def _held_out(store: Store, split: str) -> tuple[str, list[str]]:
    """The split and its ids, or `pretrain` where a store of unlabelled volumes has nothing held out."""
    present = {name for case in store.cases.values() for name in case.splits}
    split = split if split in present else "pretrain"
    return split, store.split(split)


def _label_crop(store: Store, case: str, crop: Shape) -> Tensor:
    """A case's structures as class indices, 0 the background: (1, 1, D, H, W)."""
    known = store.cases[case]
    voxels = centre_crop(lambda box: store.label(case, box), known.shape, crop, foreground_centre(known))
    return torch.from_numpy(np.searchsorted([0, *sorted(store.label_names)], voxels))[None, None]


def _centre(label: Tensor | None, crop: Shape) -> Shape:
    """The voxel through which the picture's planes go: the middle of the labelled structures, or of the volume."""
    if label is None or not bool(label.any()):
        return crop[0] // 2, crop[1] // 2, crop[2] // 2
    middle = (label[0, 0] > 0).nonzero().float().mean(dim=0).round().long().tolist()
    return middle[0], middle[1], middle[2]


def _write_picture(path: Path, arrays: dict[str, Any]) -> None:
    with whole_file(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)


def _plane(volume: Tensor, axis: int, index: int) -> np.ndarray[Any, Any]:
    return volume.select(axis, index).numpy()
