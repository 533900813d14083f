"""Parsers of the commands' arguments, with settings as dataclasses.

Command-line values override the recipe, which overrides the defaults.
"""

import argparse
import inspect as signatures
import json
import re
import sys
from argparse import SUPPRESS, Action, ArgumentError
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from gvsl.argv import CUBE, SPACING, Note, Options, is_config, type_of
from gvsl.errors import UserError
from gvsl.recipes import RECIPE_COMMANDS, read_recipe, recipe_names
from gvsl.settings import RENAMED, Levels, Loggers
from gvsl.settings.methods import Pretext
from gvsl.text import nearest, one_line

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Command = Callable[[Sequence[str]], None]
Settings = TypeVar("Settings", bound="DataclassInstance")

NEVER_IN_RECIPES = {"help", "out", "recipe", "resume", "weights"}
"""Options of a single run, which no recipe sets."""
RATES = float | tuple[float, ...]
METAVARS = {
    int: "N",
    float: "X",
    str: "TEXT",
    CUBE: "N [N N]",
    SPACING: "MM [MM MM]",
    RATES: "X|[X,X,...]",
    Levels: "N|auto",
    Loggers: "NAME [NAME ...]",
}
KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    SPACING: "one number, or three",
    RATES: "a number, or a list such as [3e-4,1e-3]",
    Levels: "a whole number, or auto",
    tuple[str, ...]: 'a list in quotes, such as \'["001", "002"]\'',
    tuple[int, ...]: "a list in quotes, such as '[0, 1]'",
}


def print_note(text: str) -> None:
    """Print a line about an argument that is accepted but has a newer form."""
    print(f"gvsl: note: {text}", file=sys.stderr)


def new_parser(command: Command, usage: str) -> ArgumentParser:
    """Return an empty parser for a command, described by the docstring of its function."""
    name = command.__name__
    return ArgumentParser(
        prog=f"gvsl {name}",
        usage=f"gvsl {name} {usage}",
        description=signatures.cleandoc(command.__doc__ or ""),
        formatter_class=_Formatter,
        exit_on_error=False,
        allow_abbrev=False,
    )


def add_path(parser: ArgumentParser, name: str, metavar: str, text: str) -> None:
    """Add a path that must be given."""
    more = {"required": True} if name.startswith("--") else {}
    parser.add_argument(name, type=Path, metavar=metavar, help=text, **more)


def add_recipe(parser: ArgumentParser, default: str | None = None) -> None:
    """Add the option that names a recipe."""
    shipped = ", ".join(recipe_names())
    text = f"settings that belong together: {shipped}, or a YAML file; the command line overrides them"
    parser.add_argument("--recipe", default=default, metavar="NAME|FILE", help=text)


def add_settings(parser: ArgumentParser, kind: type[object], group: str | None = None, **more: Any) -> None:
    """Add an option for each field of a settings dataclass, with the field's docstring as help.

    Args:
        parser: of one command.
        kind: the dataclass.
        group: the name before the options' own, joined by a dot.
        more: `default` or `skip`, as of jsonargparse.
    """
    parser.add_class_arguments(kind, group, **more)
    for action in parser._actions:
        if is_config(action):
            action.help = SUPPRESS
        elif action.metavar is None:
            action.metavar = METAVARS.get(type_of(action))


def parse(
    parser: ArgumentParser,
    argv: Sequence[str],
    select: Callable[[dict[str, Any]], dict[str, Any]] = lambda settings: settings,
    note: Note = print_note,
) -> Namespace:
    """Return the options of a command line, which overrides its recipe, which overrides the defaults.

    Args:
        parser: of one command.
        argv: the command's arguments.
        select: reduces the recipe's settings to those that apply here.
        note: takes a line for each argument or recipe setting whose name or form is an earlier one.

    Raises:
        UserError: an option is unknown, missing or of another type.
    """
    notes: dict[str, None] = {}
    options = Options(parser, notes.setdefault)
    command = parser.prog.removeprefix("gvsl ")
    given: list[str] = []
    recipe = peek(argv, "--recipe") if command in RECIPE_COMMANDS else None
    for key, value in select(read_recipe(recipe, command)).items() if recipe else ():
        name = RENAMED.get(key, key)
        known = {action.dest for action in options.actions.values()} - NEVER_IN_RECIPES
        if name not in known:
            raise UserError(f"recipe {recipe} sets {key}, which {parser.prog} doesn't have{nearest(key, known)}")
        if name != key:
            notes[f"recipe {recipe}: {key} is now {name}"] = None
        text = value if isinstance(value, str) else json.dumps(value)
        given.append(f"--{name}={options.value(name.replace('_', '-'), text)}")
    words = [*given, *options.translate(argv)]
    for text in notes:
        note(text)
    try:
        return parser.instantiate(parser.parse_args(words))
    except ArgumentError as error:
        raise UserError(f"{parser.prog}: {_plain(str(error), options)}") from None


def peek(argv: Sequence[str], option: str) -> str | None:
    """Return the value of an option that must be known before the parser can be built, or None.

    Raises:
        UserError: the option has no value.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(option, dest="value")
    try:
        value: str | None = parser.parse_known_args(list(argv))[0].value
    except ArgumentError as error:
        raise UserError(str(error)) from None
    return value


def early_setting(argv: Sequence[str], command: str, key: str, default: str) -> str:
    """Return a setting that decides which others there are, from the command line or else from its recipe."""
    recipe = peek(argv, "--recipe")
    return peek(argv, f"--{key}") or str((read_recipe(recipe, command) if recipe else {}).get(key, default))


def settings_of(kind: type[Settings], options: Namespace) -> Settings:
    """Return a settings dataclass from the parsed options."""
    return kind(**{item.name: options[item.name] for item in fields(kind)})


def for_method(settings: Mapping[str, Any], method: str, methods: Mapping[str, Pretext]) -> dict[str, Any]:
    """Return a recipe's settings for one method.

    Settings under `methods.NAME` apply to the method NAME and to those with the same settings class, such as its
    ablations, in place of those for all methods; so do settings under `pretext.NAME`, as if they stood under `pretext`.
    For other methods they are left out.
    """
    kind = type(methods[method].settings)
    shared, own = {}, {}
    for key, value in settings.items():
        section, _, rest = key.partition(".")
        name, _, last = rest.partition(".")
        if section not in ("methods", "pretext") or name not in methods or not last:
            shared[key] = value
        elif type(methods[name].settings) is kind:
            own[last if section == "methods" else f"pretext.{last}"] = value
    return shared | own


def for_mode(settings: Mapping[str, Any], mode: str, modes: Sequence[str]) -> dict[str, Any]:
    """Return a recipe's settings for one mode of transfer, without those under another mode's name."""
    chosen = {key: value for key, value in settings.items() if key.partition(".")[0] not in modes}
    own = f"{mode}."
    return chosen | {key.removeprefix(own): value for key, value in settings.items() if key.startswith(own)}


class _Formatter(DefaultHelpFormatter):
    """Help in paragraphs, with hyphens in options, flags without values and each setting's default."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.split("\n\n")
        return "\n\n".join(super(_Formatter, self)._fill_text(part, width, indent) for part in paragraphs)

    def _format_action_invocation(self, action: Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        option = action.option_strings[-1].replace("_", "-")
        if type_of(action) is not bool:
            return f"{option} {self._format_args(action, action.dest.upper())}"
        group, dot, last = option.removeprefix("--").rpartition(".")
        return f"{option}, --{group}{dot}no-{last}" if action.default else option

    def _get_help_string(self, action: Action) -> str:
        text = action.help or ""
        hidden = any(action.default is value for value in (SUPPRESS, None, False))
        if not action.option_strings or action.nargs == 0 or hidden:
            return f"{text} (required)" if action.option_strings and action.required else text
        if action.default is True:
            return f"{text} (default: on)"
        if isinstance(action.default, list | tuple):
            values = " ".join(map(str, action.default))
            return f"{text} (default: {values})" if values else text
        return f"{text} (default: %(default)s)"


def _plain(message: str, options: Options) -> str:
    """Return the parser's error message in a user's terms."""
    text = one_line(message)
    found = re.match(r'Parser key "([^"]+)"[^:]*: .*(?:Got|Given) value: (.*)$', text)
    if found is None:
        return re.sub(r"--[\w.]+", lambda option: option[0].replace("_", "-"), text)
    name = found[1].replace("_", "-")
    kind = type_of(options.actions[name])
    return f"--{name} is {found[2]}: give {KINDS.get(kind, kind)}"
