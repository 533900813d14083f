"""dataset.json of the Decathlon and of nnU-Net, and labels.json; they are untrusted."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from gvsl import readers
from gvsl.cases import is_ignored
from gvsl.errors import UserError
from gvsl.io import name_key

LISTING = "dataset.json"
MAX_DIGITS = 10
LABEL_VALUE = re.compile(r"-?[0-9]{1,9}")
Kind = TypeVar("Kind")
Found = TypeVar("Found")


def read_listing(root: Path) -> dict[str, Any]:
    """Read `root`/dataset.json; UserError if it is missing, or no JSON object."""
    path = root / LISTING
    if not path.is_file():
        raise UserError(f"there is no {path}; name the folder with {LISTING}")
    found = read_json(path)
    if not isinstance(found, dict):
        raise UserError(f"{path} should hold a JSON object")
    return found


def read_json(path: Path) -> object:
    """Read a JSON file; UserError if it can't be read."""
    if path.exists() and not path.is_file():  # reading a pipe would not end
        raise UserError(f"{path} is not a file; put a JSON file in its place, or remove it")
    try:
        found: object = readers.read_json(path)
        readers.refuse_halves(found)
        return found
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read as JSON: {error}") from None


def read_label_names(path: Path) -> dict[int, str]:
    """Return the structures' names by value in labels.json, none if it is missing.

    Raises:
        UserError: it is malformed, or two of its names differ in nothing but case or spaces.
    """
    if not path.exists():
        return {}
    entries = read_json(path)
    names: dict[int, object] = {0: None}
    if isinstance(entries, dict) and all(LABEL_VALUE.fullmatch(value) for value in entries):
        names = {int(value): name for value, name in entries.items()}
        if len(names) < len(entries):
            raise UserError(f"{path} names a label value twice, such as 1 and 01; remove one")
    if not all(isinstance(name, str) and name for name in names.values()):
        raise UserError(f'{path} must name label values, like {{"1": "anterior", "2": "posterior"}}')
    found = {value: str(name) for value, name in names.items() if value != 0}
    _refuse_alike(path, found)
    return found


def _refuse_alike(path: Path, names: Mapping[int, str]) -> None:
    """Refuse names that structures' files can't tell apart; one name for several values is meant."""
    spelled: dict[str, str] = {}
    for name in names.values():
        other = spelled.setdefault(name_key(name), name)
        if other != name and not is_ignored(name):
            raise UserError(
                f"{path} has the names {other!r} and {name!r}, which differ only in case or spaces; rename one"
            )


def entry(listing: Mapping[str, Any], key: str, kind: type[Kind], root: Path) -> Kind:
    """Return one entry of a listing; UserError if it is missing, or no instance of `kind`."""
    found = listing.get(key)
    if not isinstance(found, kind):
        raise UserError(f"{root / LISTING} should have a {kind.__name__} of {key}")
    return found


def names_of(labels: Mapping[str, Any], root: Path) -> dict[int, str]:
    """Return the structures' names by value, without the background.

    Raises:
        UserError: a value is no whole number or occurs twice, or a name is no text.
    """
    if not all(_is_value(value) and isinstance(name, str) and name for value, name in labels.items()):
        raise UserError(
            f'{root / LISTING} should have whole numbers and names in labels, like {{"0": "background", "1": "liver"}}'
        )
    if len({int(value) for value in labels}) < len(labels):
        raise UserError(f"{root / LISTING} names a label value twice, such as 1 and 01; remove one")
    return {int(value): name for value, name in labels.items() if int(value) != 0}


def _is_value(text: object) -> bool:
    """Return True for a whole number of 0 or more, and no more digits than label values have."""
    return str(text).isdecimal() and len(str(text)) < MAX_DIGITS


def one_row_each(rows: Iterable[tuple[str, Found]], path: Path) -> dict[str, Found]:
    """Return what a table says of each id.

    Raises:
        UserError: two rows of an id disagree.
    """
    found: dict[str, Found] = {}
    for name, value in rows:
        if found.setdefault(name, value) != value:
            raise UserError(f"{path} has two rows of {name!r} that disagree: remove one")
    return found


def is_file_name(name: object) -> TypeGuard[str]:
    """Return True for a text that a file system takes: not an empty one, nor with a NUL or half a character."""
    if not isinstance(name, str) or not name or "\0" in name:
        return False
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def inside(root: Path, name: object) -> Path:
    """Return the path of a file named in a listing, which must lie in its folder or below.

    Raises:
        UserError: it is no name, or leads outside.
    """
    if not is_file_name(name) or Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"{root / LISTING} names {name!r}; it should name files below {root}")
    return root / name
