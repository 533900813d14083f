"""Parsers of the commands' arguments: words over their recipe over the defaults, settings as dataclasses."""

import argparse
import inspect as signatures
import json
import re
from argparse import SUPPRESS, Action, ArgumentError
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from gvsl.errors import UserError
from gvsl.recipes import RECIPE_COMMANDS, read_recipe, recipe_names
from gvsl.text import listed, nearest, one_line

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Command = Callable[[Sequence[str]], None]
Settings = TypeVar("Settings", bound="DataclassInstance")

NEVER_IN_RECIPES = {"--help", "--out", "--recipe", "--resume", "--weights"}
"""What belongs to one run, not to a recipe."""


def new_parser(command: Command, usage: str) -> ArgumentParser:
    """An empty parser for a command, described by the docstring of its function."""
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
    """A path that must be given."""
    more = {"required": True} if name.startswith("--") else {}
    parser.add_argument(name, type=Path, metavar=metavar, help=text, **more)


def add_recipe(parser: ArgumentParser, default: str | None = None) -> None:
    shipped = listed(recipe_names())
    text = f"settings that belong together: {shipped}, or a YAML file; the command line goes before it"
    parser.add_argument("--recipe", default=default, metavar="NAME|FILE", help=text)


def parse(
    parser: ArgumentParser,
    words: Sequence[str],
    sort_out: Callable[[dict[str, Any]], dict[str, Any]] = lambda settings: settings,
) -> Namespace:
    """What `words` say, over what their recipe says, over the defaults; settings as their classes.

    Args:
        parser: of one command.
        words: of its command line.
        sort_out: makes the settings that hold here of those that the recipe has.

    Raises:
        UserError: one is unknown, missing or of another type.
    """
    known = {option for action in parser._actions for option in action.option_strings}
    command = parser.prog.removeprefix("gvsl ")
    given: list[str] = []
    recipe = peek(words, "--recipe") if command in RECIPE_COMMANDS else None
    if recipe:
        for key, value in sort_out(read_recipe(recipe, command)).items():
            if f"--{key}" not in known - NEVER_IN_RECIPES:
                guess = nearest(f"--{key}", known)
                raise UserError(f"recipe {recipe} sets {key}, which {parser.prog} doesn't have{guess}")
            given.append(f"--{key}={value if isinstance(value, str) else json.dumps(value)}")
    for word in words:
        option = word.partition("=")[0]
        if option.startswith("--") and option not in {"--", *known}:
            guess = nearest(option, known)
            raise UserError(f"{parser.prog} has no setting {option}{guess}; {parser.prog} --help lists them")
    try:
        return parser.instantiate(parser.parse_args([*given, *words]))
    except ArgumentError as error:
        raise UserError(f"{parser.prog}: {plain(str(error))}") from None


def peek(words: Sequence[str], option: str) -> str | None:
    """The value of an option that must be known before the parser can be built, or None.

    Raises:
        UserError: the option stands there without a value.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(option, dest="value")
    try:
        value: str | None = parser.parse_known_args(list(words))[0].value
    except ArgumentError as error:
        raise UserError(str(error)) from None
    return value


def recipe_setting(words: Sequence[str], command: str, key: str) -> str | None:
    """What the recipe on a command line says for one setting that must be known before the others."""
    recipe = peek(words, "--recipe")
    found = read_recipe(recipe, command).get(key) if recipe else None
    return None if found is None else str(found)


def settings_of(kind: type[Settings], options: Namespace) -> Settings:
    """The fields of a settings dataclass from among the parsed options."""
    return kind(**{item.name: options[item.name] for item in fields(kind)})


def for_method(
    settings: Mapping[str, Any], method: str, methods: Mapping[str, Callable[..., object]]
) -> dict[str, Any]:
    """A recipe's settings for one method.

    What stands under `pretext.NAME` holds for the method NAME and for those that take the same settings, such as its
    ablations, as if it stood under `pretext`; for other methods it is left out.
    """
    kind = pretext_type(methods[method])
    chosen = {}
    for key, value in settings.items():
        section, _, rest = key.removeprefix("pretext.").partition(".")
        if not key.startswith("pretext.") or section not in methods:
            chosen[key] = value
        elif pretext_type(methods[section]) is kind:
            chosen[f"pretext.{rest}"] = value
    return chosen


def for_mode(settings: Mapping[str, Any], mode: str, modes: Sequence[str]) -> dict[str, Any]:
    """A recipe's settings for one mode of transfer: what stands under another mode's name is left out."""
    chosen = {key: value for key, value in settings.items() if key.partition(".")[0] not in modes}
    own = f"{mode}."
    return chosen | {key.removeprefix(own): value for key, value in settings.items() if key.startswith(own)}


def default_settings(method: Callable[..., object]) -> Any:
    """The settings that a method has if none are given: its factory's own, or else those of their dataclass."""
    default = signatures.signature(method).parameters["settings"].default
    return pretext_type(method)() if default in (None, signatures.Parameter.empty) else default


def pretext_type(method: Callable[..., object]) -> type:
    """The settings dataclass that a method's factory takes, by the annotation of its `settings`."""
    annotation = signatures.signature(method, eval_str=True).parameters["settings"].annotation
    kinds = [kind for kind in get_args(annotation) or (annotation,) if is_dataclass(kind)]
    if len(kinds) != 1 or not isinstance(kinds[0], type):
        raise TypeError(f"{method} must annotate its settings with their dataclass, not with {annotation}")
    return kinds[0]


class _Formatter(DefaultHelpFormatter):
    """Help in paragraphs, with each setting's default; metavar and default say what type it has."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.split("\n\n")
        return "\n\n".join(super(_Formatter, self)._fill_text(part, width, indent) for part in paragraphs)

    def _get_help_string(self, action: Action) -> str:
        text = action.help or ""
        if not action.option_strings or action.nargs == 0 or action.default == SUPPRESS:
            return text
        if action.required:
            return f"{text} (required)"
        return text if action.default is None else f"{text} (default: %(default)s)"


def plain(message: str) -> str:
    """The parser's complaint in a user's words."""
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", one_line(message))
    return re.sub(r'^Parser key "([^"]+)":', r"--\1:", text).replace("typing.", "")
