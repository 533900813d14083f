"""Checks that weights fit a store and the settings: preprocessing, channels and size."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from gvsl.backbones.weights import PretrainedBackbone, read_size
from gvsl.errors import UserError
from gvsl.preprocessing import PRESETS, Preprocessing
from gvsl.preprocessing.images import names_of
from gvsl.preprocessing.spec import describe_range, format_channels, format_spacing
from gvsl.store import Store

RANGE = ("intensity", "lower", "upper")
"""Fields of which every channel has its own, if there are several."""
VOXEL_FIELDS = ("orientation", "spacing", *RANGE)
"""The fields that determine the meaning of a voxel; crop and margin only determine how much background there is."""


def check_preprocessing(
    backbone: PretrainedBackbone, weights: str | Path, store: Store, allow_mismatch: bool = False
) -> None:
    """Check that weights were trained on volumes prepared like the store's, or that a mismatch is allowed.

    Raises:
        UserError: orientation, spacing, intensity range or the number of channels differ.
    """
    wanted, found = backbone.preprocessing, store.preprocessing
    if backbone.in_channels != store.channel_count:
        known = f" ({names_of(found)})" if found.channels else ""
        raise UserError(
            f"{weights} takes {backbone.in_channels} channels, but {store.place} has {store.channel_count}{known}: "
            f"name other weights, or prepare it again elsewhere{_channel_option(wanted)}"
        )
    differing = [name for name in VOXEL_FIELDS if getattr(wanted, name) != getattr(found, name)]
    if wanted.channels or found.channels:
        differing = [name for name in differing if name not in RANGE]
        differing += [] if same_channels(wanted, found) else ["channels"]
    if differing and not allow_mismatch:
        options = prepare_options(wanted)
        raise UserError(
            f"{weights} was trained on volumes with {_values(wanted, differing)}, but {store.place} was prepared with "
            f"{_values(found, differing)}: prepare it again with `gvsl prepare SOURCE NEW_STORE {options}`"
            ", or give --allow-preprocessing-mismatch"
        )


def same_channels(one: Preprocessing, other: Preprocessing) -> bool:
    """Return True if two specs have the same channels in the same order, by range and, where both name them, by name.

    >>> same_channels(PRESETS["mr"], PRESETS["none"])
    False
    """
    if [_range(each) for each in one.contracts] != [_range(each) for each in other.contracts]:
        return False
    pairs = zip(one.channels, other.channels, strict=False)
    return all(first.name.casefold() == second.name.casefold() for first, second in pairs)


def _range(spec: Preprocessing) -> tuple[object, ...]:
    return tuple(getattr(spec, name) for name in RANGE)


def _channel_option(wanted: Preprocessing) -> str:
    """Return the option of `gvsl prepare` that takes the channels of a spec, if it names them."""
    return f" with --channels {_value(wanted, 'channels')}" if wanted.channels else ""


def check_size(weights: str | Path, option: str, value: object) -> None:
    """Check a requested size of the backbone against that of weights, reading their config.json only.

    Args:
        weights: as for `gvsl.backbones.weights.load_backbone`.
        option: that requests it, without its hyphens: of a field of `BackboneSettings`, such as width or backbone.name.
        value: of that setting.

    Raises:
        UserError: they differ, or there are no weights whose config.json can be read.
    """
    name = option.rpartition(".")[2]
    found, what = getattr(read_size(weights), name.replace("-", "_")), "backbone" if name == "name" else name
    if found != value:
        raise UserError(
            f"{what} is {_shown(value)}, but {weights} has {what} {_shown(found)}: leave out --{option}, or name other "
            "weights"
        )


def _shown(value: object) -> object:
    """Return a value as an option takes it."""
    return list(value) if isinstance(value, tuple) else value


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
    if name == "channels":
        return format_channels(value) or describe_range(spec)
    return f"{value:g}" if isinstance(value, float) else str(value)
