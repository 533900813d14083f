"""Translation of a command line into the parser's own option names: hyphens, short names, flags and earlier names."""

import json
import re
from argparse import Action
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from jsonargparse import ArgumentParser

from gvsl.errors import UserError
from gvsl.settings import RENAMED, choices_of, current_value
from gvsl.text import nearest, one_of

Note = Callable[[str], object]
"""Takes a line about an argument that is accepted but has a newer form."""
CUBE = tuple[int, int, int]
SPACING = float | tuple[float, float, float]
NO_VALUE = re.compile(r"-(?!\.?\d)")
"""The start of a word that is an option rather than a value; a negative number is a value."""


class Options:
    """The options of a parser by name, and the translation of arguments into them."""

    def __init__(self, parser: ArgumentParser, note: Note) -> None:
        self.prog, self.note = parser.prog, note
        self.actions: dict[str, Action] = {}
        """By name as typed today: without leading hyphens, and with hyphens for underscores."""
        self.short: dict[str, list[str]] = {}
        """Full names by the last part of nested ones."""
        for action in parser._actions:
            for option in action.option_strings:
                if option.startswith("--") and not is_config(action):
                    self.actions[option[2:].replace("_", "-")] = action
        for name in self.actions:
            group, _, last = name.rpartition(".")
            if group and last not in self.actions:
                self.short.setdefault(last, []).append(name)

    def translate(self, argv: Sequence[str]) -> list[str]:
        """Return arguments as the parser reads them.

        Raises:
            UserError: an option is unknown or ambiguous, or its value is none of its choices.
        """
        return list(self._translated(deque(argv)))

    def _translated(self, words: deque[str]) -> Iterator[str]:
        while words:
            word = words.popleft()
            if word == "--":
                yield from [word, *words]
                return
            if not word.startswith("--"):
                yield word
                continue
            typed, equals, value = word.partition("=")
            name, negated = self._find(typed)
            action = self.actions[name]
            option = action.option_strings[-1]
            if type_of(action) is bool:
                yield f"{option}={self._flag(typed, name, negated, value if equals else None, words)}"
                continue
            self._note_form(typed)
            if equals:
                yield f"{option}={self.value(name, value)}"
            elif action.nargs is not None or not words or NO_VALUE.match(words[0]):
                yield option  # takes no value, or several, or lacks the one that it needs
            else:
                values = [words.popleft()]
                while type_of(action) == CUBE and words and _is_side(values[0]) and _is_side(words[0]):
                    values.append(words.popleft())
                if (
                    type_of(action) == SPACING
                    and len(words) > 1
                    and all(map(_is_number, (values[0], *list(words)[:2])))
                ):
                    values += [words.popleft(), words.popleft()]
                choices = choices_of(type_of(action))
                while words and words[0] in choices:
                    values.append(words.popleft())
                yield f"{option}={self.value(name, ' '.join(values))}"

    def _find(self, typed: str) -> tuple[str, bool]:
        """Return the full name of an option as typed, and True if it switches a flag off."""
        asked = _current(typed)
        name = self.full_name(asked)
        if name is not None:
            return name, False
        group, dot, last = asked.rpartition(".")
        if last.startswith("no-"):
            name = self.full_name(f"{group}{dot}{last[3:]}")
            if name is not None and type_of(self.actions[name]) is bool:
                return name, True
        guess = nearest(f"--{asked}", (f"--{known}" for known in [*self.actions, *self.short]))
        raise UserError(f"{self.prog} has no setting {typed}{guess}; {self.prog} --help lists them")

    def _note_form(self, typed: str) -> None:
        if typed != f"--{_current(typed)}":
            self.note(f"{typed} is now --{_current(typed)}")

    def full_name(self, name: str) -> str | None:
        """Return the full name of a setting, given that or, if it is unique, its last part; None if there is none.

        Raises:
            UserError: several settings end like this.
        """
        if name in self.actions:
            return name
        found = self.short.get(name, [])
        if len(found) > 1:
            choices = ", ".join(f"--{full}" for full in found)
            raise UserError(f"{self.prog} has several settings --{name}: choose one of {choices}")
        return found[0] if found else None

    def value(self, name: str, value: str) -> str:
        """Return the value of a setting as the parser reads it: choices checked, and one side made a cube.

        Raises:
            UserError: it is none of the choices, or no crop.
        """
        kind = type_of(self.actions[name])
        value = str(current_value(name.replace("-", "_"), value))
        if get_origin(kind) is Literal:
            return one_of(get_args(kind), name, value)
        if choices_of(kind) and value not in ("null", "None"):
            names = [one_of(choices_of(kind), name, word) for word in re.findall(r"[^\s,\[\]()\"']+", value)]
            return json.dumps(names)
        if kind == CUBE and value not in ("null", "None"):
            sides = re.findall(r"-?\d+", value) if _is_side(value.replace(" ", "")) else []
            if len(sides) not in (1, 3):
                raise UserError(f"--{name} is {value}: give one side of a cube in voxels, or three sides")
            return f"[{', '.join(sides * (3 // len(sides)))}]"
        if kind == SPACING and not _is_number(value):
            edges = re.sub(r"[\[\](),]", " ", value).split()
            if len(edges) != 3 or not all(map(_is_number, edges)):
                raise UserError(f"--{name} is {value}: give one spacing in mm, or three, such as 0.8 0.8 3")
            return f"[{', '.join(edges)}]"
        return value

    def _flag(self, typed: str, name: str, negated: bool, value: str | None, words: deque[str]) -> str:
        """Return `true` or `false` for a flag; its earlier form, with a value, is accepted with a note."""
        if value is None and words and words[0].lower() in ("true", "false"):
            value = words.popleft()
        if value is None:
            self._note_form(typed)
            return str(not negated).lower()
        if value.lower() not in ("true", "false"):
            return value  # for the parser to refuse
        on = (value.lower() == "true") is not negated
        group, dot, last = name.rpartition(".")
        self.note(f"{typed} {value} is now --{name if on else f'{group}{dot}no-{last}'}")
        return str(on).lower()


def is_config(action: Action) -> bool:
    """Return True for the parser's own option that reads a group of settings from a file: recipes do that here."""
    return type(action).__name__ == "_ActionConfigLoad"


def type_of(action: Action) -> Any:
    """Return the type of an option's value; of an optional one, the type that it has if it is given."""
    kind = getattr(action, "_typehint", action.type)
    kinds = [one for one in get_args(kind) if one is not NoneType]
    return kinds[0] if NoneType in get_args(kind) and len(kinds) == 1 else kind


def _current(typed: str) -> str:
    """Return the name of an option as it is typed today, without its leading hyphens."""
    name = typed[2:].replace("-", "_")
    return RENAMED.get(name, name).replace("_", "-")


def _is_side(word: str) -> bool:
    return re.fullmatch(r"[\[(]?-?\d+([,\s]+-?\d+)*[,\])]*", word) is not None


def _is_number(word: str) -> bool:
    return re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", word) is not None
