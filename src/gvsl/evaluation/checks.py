"""What must hold before a transfer begins, each said in one line that names the mend."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import torch

from gvsl.backbones.weights import PretrainedUNet3D, load_backbone
from gvsl.errors import UserError
from gvsl.store import PRESETS, Preprocessing, Store
from gvsl.transfer import TransferSettings

VOXEL_FIELDS = ("orientation", "spacing", "intensity", "lower", "upper")
"""What decides the meaning of a voxel; crop and margin only decide how much of the surroundings is there."""
NAMED = 3


def check_mode(weights: str | Path | None, settings: TransferSettings) -> None:
    """Refuse a mode that does not go with the weights.

    Raises:
        UserError: fine-tuning of random weights, or pre-trained weights for a run from scratch.
    """
    if weights is None and settings.mode == "finetune":
        raise UserError("mode finetune needs weights: name the folder of a pre-training run, or choose mode scratch")
    if weights is not None and settings.mode == "scratch":
        raise UserError(f"mode scratch starts from random weights: leave out {weights}, or choose mode finetune")


def check_contract(backbone: PretrainedUNet3D, weights: str | Path, store: Store, any_contract: bool = False) -> None:
    """Refuse weights that were trained on volumes prepared otherwise than the store's, unless any will do.

    Raises:
        UserError: orientation, spacing, intensity range or the number of channels differ.
    """
    wanted, found = backbone.preprocessing, store.preprocessing
    odd = [name for name in VOXEL_FIELDS if getattr(wanted, name) != getattr(found, name)]
    if odd and not any_contract:
        raise UserError(
            f"{weights} was trained on volumes with {_said(wanted, odd)}, but {store.path} was prepared with "
            f"{_said(found, odd)}: prepare it again with `gvsl prepare SOURCE NEW_STORE {_options(wanted)}`"
            ", or give --any_contract true"
        )
    if backbone.in_channels != 1:
        raise UserError(f"{weights} takes {backbone.in_channels} channels, but {store.path} has 1: name other weights")


def check_width(weights: str | Path, width: int) -> None:
    """Refuse a width that was asked for beside weights of another.

    Raises:
        UserError: they differ, or the weights can't be loaded.
    """
    found = load_backbone(weights).width
    if found != width:
        raise UserError(f"width is {width}, but {weights} has width {found}: leave out --width, or name other weights")


def check_splits(store: Store) -> None:
    """Refuse a store that lacks a split that a transfer needs.

    Raises:
        UserError: no case is in train, val or test.
    """
    present = {split for case in store.cases.values() for split in case.splits}
    for split in ("train", "val", "test"):
        if split not in present:
            raise UserError(
                f"{store.path} has no case in the split {split!r}: list some under {split} in splits.json, and "
                "prepare it again"
            )


def scored_cases(store: Store) -> list[str]:
    """The cases of the test split, or none if not one of them has a label map: then nothing can be tested."""
    test = store.split("test")
    return test if any(store.has_label(case) for case in test) else []


def check_structures(store: Store, train: Sequence[str], others: Sequence[str]) -> dict[int, str]:
    """The structures to segment, by rising label value.

    Args:
        store: their label maps' values and names.
        train: the training cases that were drawn.
        others: the cases of the validation and test splits.

    Raises:
        UserError: a case has no label map, there is no structure, or one has no voxel in a training case.
    """
    bare = [case for case in (*train, *others) if not store.has_label(case)]
    if bare:
        raise UserError(
            f"{store.path} has no label map for {_few(bare)}: add labels, or take the cases out of train, "
            "val and test, and prepare it again"
        )
    labels = {value: store.label_names[value] for value in sorted(store.label_names)}
    if not labels:
        raise UserError(f"{store.path} has no labelled voxel: add label maps, and prepare it again")
    seen = {value for case in train for value in store.cases[case].label_values or ()}
    unseen = [f"{name} ({value})" for value, name in labels.items() if value not in seen]
    if unseen:
        rest = {value for case in store.split("train") for value in store.cases[case].label_values or ()} - seen
        more = "use more labels or another seed, or " if rest.intersection(labels) else ""
        raise UserError(
            f"{_few(unseen)} has no voxel in the {len(train)} training cases of {store.path}: "
            f"{more}take it out of the label maps and their names, and prepare it again"
        )
    return labels


def check_targets(store: Store, splits: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """The class of every case that a classification learns from or is scored on.

    Args:
        store: the cases' classes.
        splits: the cases of each split, the training cases as they were drawn.

    Raises:
        UserError: a case has no class, or a split has cases of one class only.
    """
    targets = {case: store.cases[case].target for cases in splits.values() for case in cases}
    bare = [case for case, target in targets.items() if target is None]
    if bare:
        raise UserError(
            f"{store.path} has no class for {_few(bare)}: add it to classes.json, or take the cases out of train, "
            "val and test, and prepare it again"
        )
    known = {case: target for case, target in targets.items() if target is not None}
    for split, cases in splits.items():
        present = {known[case] for case in cases}
        if len(present) < 2:
            mend = "use more labels or another seed" if split == "train" else f"move a case of the other to {split}"
            raise UserError(f"{store.path} has only class {present.pop()} in the {len(cases)} cases of {split}: {mend}")
    return known


def find_device(name: str) -> torch.device:
    """The device to compute on: `cpu`, `cuda`, or with `auto` a GPU if there is one.

    Raises:
        UserError: `cuda` was asked for, and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device is cuda, but torch finds no CUDA device here: choose cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _said(contract: Preprocessing, names: Sequence[str]) -> str:
    """Some fields of a contract in words."""
    return ", ".join(f"{name} {_value(contract, name)}" for name in names)


def _options(contract: Preprocessing) -> str:
    """The options of `gvsl prepare` that give this contract."""
    alike = {name: sum(_same(contract, preset, field) for field in VOXEL_FIELDS) for name, preset in PRESETS.items()}
    best = max(alike, key=lambda name: alike[name])
    settings = [field.name for field in fields(Preprocessing) if field.compare]
    others = [name for name in settings if not _same(contract, PRESETS[best], name)]
    return " ".join([f"--preset {best}", *(f"--{name} {_value(contract, name)}" for name in others)])


def _same(one: Preprocessing, other: Preprocessing, name: str) -> bool:
    return bool(getattr(one, name) == getattr(other, name))


def _value(contract: Preprocessing, name: str) -> str:
    value = getattr(contract, name)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _few(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
