"""Recipes: settings that belong together, with one section per command."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from gvsl.errors import UserError
from gvsl.readers import read_yaml
from gvsl.settings import flatten
from gvsl.text import nearest, one_line

RECIPE_COMMANDS = ("pretrain", "transfer")


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with gvsl."""
    folder = files("gvsl").joinpath("recipes")
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def read_recipe(recipe: str, command: str) -> dict[str, Any]:
    """Return the settings of a recipe for a command by dotted name, such as {"trainer.max_steps": 100}.

    Raises:
        UserError: there is no such recipe, it is malformed, or it has no section for the command.
    """
    shipped = recipe_names()
    path = Path(str(files("gvsl").joinpath("recipes", f"{recipe}.yaml"))) if recipe in shipped else Path(recipe)
    if not path.is_file():
        guess = nearest(recipe, shipped)
        raise UserError(f"there is no recipe {recipe}{guess}: name one of {', '.join(shipped)}, or a YAML file")
    try:
        sections = read_yaml(path)
    except (OSError, ValueError) as error:
        raise UserError(f"recipe {recipe} is not YAML: {one_line(str(error))}") from None
    commands = ", ".join(RECIPE_COMMANDS)
    if not isinstance(sections, dict) or not all(isinstance(section, dict) for section in sections.values()):
        raise UserError(f"recipe {recipe} must have sections ({commands}), each of settings")
    for name in sections:
        if name not in RECIPE_COMMANDS:
            raise UserError(f"recipe {recipe} has a section {name}: choose one of {commands}")
    if command not in sections:
        raise UserError(f"recipe {recipe} has no section {command}: add one, or name a recipe for gvsl {command}")
    return {name: value for name, value in flatten(sections[command]).items() if value != {}}
