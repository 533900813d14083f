"""Facts about settings, kept beside each setting in the metadata of its dataclass field.

    device: str = field(default="auto", metadata=NOTHING)

A setting without such metadata decides a run's result. Records carry these facts (`RunRecord.effects`); all that
compares, resumes or names runs reads them from there.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from gvsl.errors import UserError
from gvsl.text import one_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Levels = int | Literal["auto"]
"""A number of the U-Net's resolutions, or `auto`: as many as the crop allows."""
Loggers = tuple[Literal["csv", "tensorboard", "wandb", "mlflow"], ...]
"""Where a pre-training's values go; `csv` is the run's own table, which is always written."""
EFFECT = "effect"
NOTHING: Mapping[str, str] = {EFFECT: "nothing"}
"""Metadata of a setting that changes how a run proceeds, such as its device, but nothing that it produces."""
EXTRAS: Mapping[str, str] = {EFFECT: "extras"}
"""Metadata of a setting that changes what a run writes besides its weights and scores."""
ARM: Mapping[str, str] = {EFFECT: "arm"}
"""Metadata of a setting in which the arms of a comparison, or its seeds, differ by design."""
NO_RESULT = ("nothing", "extras")
"""Effects of the settings that decide neither weights nor scores."""
RENAMED: Mapping[str, str] = {
    "any_contract": "allow_preprocessing_mismatch",
    "augmentation": "augment.rate",
    "batch": "batch_size",
    "trainer.accelerator": "trainer.device",
}
"""Earlier names of settings and today's, within the same group: in options, recipes, records and checkpoints."""
ALIASES: Mapping[str, Mapping[Any, Any]] = {"device": {"gpu": "cuda"}, "augment.rate": {"none": 0.0}}
"""Other names for the values of settings, by the setting's name, with its group's or in any group."""


def choices_of(kind: Any) -> tuple[Any, ...]:
    """Return the choices of a setting of several, such as `Loggers`; none if its type is another.

    Example:
        >>> choices_of(tuple[Literal["a", "b"], ...]), choices_of(Literal["a", "b"])
        (('a', 'b'), ())
    """
    parts = get_args(kind)
    several = get_origin(kind) is tuple and len(parts) == 2 and parts[1] is Ellipsis
    return get_args(parts[0]) if several and get_origin(parts[0]) is Literal else ()


def check_settings(settings: "DataclassInstance", prefix: str = "", /, **least: float) -> None:
    """Check that each setting of a Literal type is one of its choices, and that others are not too small.

    Args:
        settings: without nested groups, which check themselves.
        prefix: the name of their group with a dot, for the message.
        least: the minimum of a setting, by name; a setting that is None has none.

    Raises:
        UserError: one is out of its range.
    """
    for name, kind in get_type_hints(type(settings)).items():
        if get_origin(kind) is Literal:
            one_of(get_args(kind), f"{prefix}{name}", getattr(settings, name))
    for name, minimum in least.items():
        value = getattr(settings, name)
        if value is not None and not value >= minimum:
            raise UserError(f"{prefix}{name} is {value}: give {minimum} or more")


def check_ranges(settings: "DataclassInstance", prefix: str = "", /, **ranges: tuple[float, float]) -> None:
    """Check that settings lie in their ranges, ends included; one that is None has none.

    Args:
        settings: any of their group.
        prefix: the name of the group with a dot, for the message.
        ranges: minimum and maximum of a setting, by name.

    Raises:
        UserError: one is out of its range.
    """
    for name, (least, most) in ranges.items():
        value = getattr(settings, name)
        if value is not None and not least <= value <= most:
            raise UserError(f"{prefix}{name} is {value}: give {least} to {most}")


def effects_of(settings: "DataclassInstance", prefix: str = "") -> dict[str, str]:
    """Return the effect of each setting that has one by its dotted name; a group's effect covers its members."""
    found: dict[str, str] = {}
    for item in fields(settings):
        name, value = f"{prefix}{item.name}", getattr(settings, item.name)
        if EFFECT in item.metadata:
            found[name] = item.metadata[EFFECT]
        elif is_dataclass(value) and not isinstance(value, type):
            found |= effects_of(value, f"{name}.")
    return found


def effect_of(name: str, effects: Mapping[str, str]) -> str | None:
    """Return the effect of a setting or of the innermost group around it; None if it decides the result.

    Example:
        >>> effect_of("clusters.points", {"clusters": "extras"})
        'extras'
    """
    while name:
        if name in effects:
            return effects[name]
        name = name.rpartition(".")[0]
    return None


def current_value(name: str, value: Any) -> Any:
    """Return the value of a setting, given by its dotted name, by today's name.

    Example:
        >>> current_value("trainer.device", "gpu")
        'cuda'
    """
    aliases = ALIASES.get(name) or ALIASES.get(name.rpartition(".")[2])
    return aliases.get(value, value) if aliases and isinstance(value, str) else value


def current_names(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return settings, nested or flat, with earlier names and values replaced by today's.

    Example:
        >>> current_names({"trainer": {"accelerator": "gpu"}, "batch": 1})
        {'trainer': {'device': 'cuda'}, 'batch_size': 1}
    """
    found = {}
    for name, value in config.items():
        current = RENAMED.get(f"{prefix}{name}", f"{prefix}{name}")
        if isinstance(value, dict):
            value = current_names(value, f"{prefix}{name}.")
        found[current.removeprefix(prefix)] = current_value(current, value)
    return found


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one level, names joined by dots.

    Example:
        >>> flatten({"trainer": {"max_steps": 600}, "seed": 0})
        {'trainer.max_steps': 600, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def deciding_settings(settings: "DataclassInstance", *, extras: bool = False) -> dict[str, Any]:
    """Return the settings that decide what a run produces, by dotted name.

    Args:
        settings: of a run.
        extras: include those that decide what is written besides weights and scores.
    """
    effects = effects_of(settings)
    ignored = ("nothing",) if extras else NO_RESULT
    return {name: value for name, value in flatten(asdict(settings)).items() if effect_of(name, effects) not in ignored}
