"""Recipes: settings that belong together, one section a command."""

from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from gvsl.errors import UserError
from gvsl.text import nearest, one_line

RECIPE_COMMANDS = ("pretrain", "transfer")


def recipe_names() -> list[str]:
    """The recipes that come with gvsl."""
    folder = files("gvsl").joinpath("recipes")
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def read_recipe(recipe: str, command: str) -> dict[str, Any]:
    """The settings that a recipe has for a command, flat: {"trainer.max_steps": 100}."""
    shipped = recipe_names()
    place = files("gvsl").joinpath("recipes", f"{recipe}.yaml") if recipe in shipped else Path(recipe)
    if not place.is_file():
        guess = nearest(recipe, shipped)
        raise UserError(f"there is no recipe {recipe}{guess}: name one of {', '.join(shipped)}, or a YAML file")
    try:
        sections = yaml.safe_load(place.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {recipe} is not YAML: {one_line(str(error))}") from None
    if not isinstance(sections, dict) or not all(isinstance(section, dict) for section in sections.values()):
        raise UserError(f"recipe {recipe} must have sections ({', '.join(RECIPE_COMMANDS)}), each of settings")
    for name in sections:
        if name not in RECIPE_COMMANDS:
            raise UserError(f"recipe {recipe} has a section {name}: there may be {', '.join(RECIPE_COMMANDS)}")
    if command not in sections:
        raise UserError(f"recipe {recipe} has no section {command}, so it says nothing about gvsl {command}")
    return dict(_flat(sections[command]))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings by their dotted names."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
