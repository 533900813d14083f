"""Whether weights fit a store: preprocessing, channels and width."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from gvsl.backbones.weights import PretrainedUNet3D, load_backbone
from gvsl.errors import UserError
from gvsl.preprocessing import PRESETS, Preprocessing
from gvsl.store import Store

VOXEL_FIELDS = ("orientation", "spacing", "intensity", "lower", "upper")
"""What decides the meaning of a voxel; crop and margin only decide how much of the surroundings is there."""


def check_contract(backbone: PretrainedUNet3D, weights: str | Path, store: Store, allow_mismatch: bool = False) -> None:
    """Refuse weights that were trained on volumes prepared otherwise than the store's, unless any will do.

    Raises:
        UserError: orientation, spacing, intensity range or the number of channels differ.
    """
    wanted, found = backbone.preprocessing, store.preprocessing
    odd = [name for name in VOXEL_FIELDS if getattr(wanted, name) != getattr(found, name)]
    if odd and not allow_mismatch:
        raise UserError(
            f"{weights} was trained on volumes with {_said(wanted, odd)}, but {store.path} was prepared with "
            f"{_said(found, odd)}: prepare it again with `gvsl prepare SOURCE NEW_STORE {_options(wanted)}`"
            ", or give --allow-preprocessing-mismatch"
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
