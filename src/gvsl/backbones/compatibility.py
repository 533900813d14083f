"""Checks that weights fit a store and the settings: preprocessing, channels and size."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Literal

from gvsl.backbones.weights import PretrainedUNet3D, read_size
from gvsl.errors import UserError
from gvsl.preprocessing import PRESETS, Preprocessing
from gvsl.preprocessing.spec import format_spacing
from gvsl.store import Store

VOXEL_FIELDS = ("orientation", "spacing", "intensity", "lower", "upper")
"""The fields that determine the meaning of a voxel; crop and margin only determine how much background there is."""


def check_preprocessing(
    backbone: PretrainedUNet3D, weights: str | Path, store: Store, allow_mismatch: bool = False
) -> None:
    """Check that weights were trained on volumes prepared like the store's, or that a mismatch is allowed.

    Raises:
        UserError: orientation, spacing, intensity range or the number of channels differ.
    """
    wanted, found = backbone.preprocessing, store.preprocessing
    differing = [name for name in VOXEL_FIELDS if getattr(wanted, name) != getattr(found, name)]
    if differing and not allow_mismatch:
        options = prepare_options(wanted)
        raise UserError(
            f"{weights} was trained on volumes with {_values(wanted, differing)}, but {store.path} was prepared with "
            f"{_values(found, differing)}: prepare it again with `gvsl prepare SOURCE NEW_STORE {options}`"
            ", or give --allow-preprocessing-mismatch"
        )
    if backbone.in_channels != 1:
        raise UserError(f"{weights} takes {backbone.in_channels} channels, but {store.path} has 1: name other weights")


def check_size(weights: str | Path, name: Literal["width", "levels"], value: int) -> None:
    """Check a requested width or number of levels against that of the weights, reading their config.json only.

    Raises:
        UserError: they differ, or there are no weights whose config.json can be read.
    """
    found = getattr(read_size(weights), name)
    if found != value:
        raise UserError(
            f"{name} is {value}, but {weights} has {name} {found}: leave out --{name}, or name other weights"
        )


def _values(spec: Preprocessing, names: Sequence[str]) -> str:
    """List some fields of a preprocessing spec with their values."""
    return ", ".join(f"{name} {_value(spec, name)}" for name in names)


def prepare_options(spec: Preprocessing) -> str:
    """Return the options of `gvsl prepare` that give this preprocessing spec."""
    matching = {name: sum(_same(spec, preset, field) for field in VOXEL_FIELDS) for name, preset in PRESETS.items()}
    best = max(matching, key=lambda name: matching[name])
    settings = [field.name for field in fields(Preprocessing) if field.compare]
    others = [name for name in settings if not _same(spec, PRESETS[best], name)]
    return " ".join([f"--preset {best}", *(f"--{name} {_value(spec, name)}" for name in others)])


def _same(first: Preprocessing, second: Preprocessing, name: str) -> bool:
    return bool(getattr(first, name) == getattr(second, name))


def _value(spec: Preprocessing, name: str) -> str:
    value = getattr(spec, name)
    if name == "spacing":
        return format_spacing(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
