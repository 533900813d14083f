"""dataset.json of the Decathlon and of nnU-Net, and labels.json; they are untrusted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from gvsl import readers
from gvsl.errors import UserError

LISTING = "dataset.json"
MAX_DIGITS = 10
Kind = TypeVar("Kind")


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
        return found
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read as JSON: {error}") from None


def read_label_names(path: Path) -> dict[int, str]:
    """Return the structures' names by value in labels.json, none if it is missing; UserError if it is malformed."""
    if not path.exists():
        return {}
    found = read_json(path)
    names: dict[int, object] = {0: None}
    if isinstance(found, dict) and all(value.lstrip("-").isdecimal() and len(value) < MAX_DIGITS for value in found):
        names = {int(value): name for value, name in found.items()}
    if not all(isinstance(name, str) and name for name in names.values()):
        raise UserError(f'{path} must name label values, like {{"1": "anterior", "2": "posterior"}}')
    return {value: str(name) for value, name in names.items() if value != 0}


def entry(listing: Mapping[str, Any], key: str, kind: type[Kind], root: Path) -> Kind:
    """Return one entry of a listing; UserError if it is missing, or no instance of `kind`."""
    found = listing.get(key)
    if not isinstance(found, kind):
        raise UserError(f"{root / LISTING} should have a {kind.__name__} of {key}")
    return found


def names_of(labels: Mapping[str, Any], root: Path) -> dict[int, str]:
    """Return the structures' names by value, without the background.

    Raises:
        UserError: a value is no whole number, or a name no text.
    """
    if not all(_is_value(value) and isinstance(name, str) and name for value, name in labels.items()):
        raise UserError(
            f'{root / LISTING} should have whole numbers and names in labels, like {{"0": "background", "1": "liver"}}'
        )
    return {int(value): name for value, name in labels.items() if int(value) != 0}


def _is_value(text: object) -> bool:
    """Return True for a whole number of 0 or more, and no more digits than label values have."""
    return str(text).isdecimal() and len(str(text)) < MAX_DIGITS


def inside(root: Path, name: object) -> Path:
    """Return the path of a file named in a listing, which must lie in its folder or below.

    Raises:
        UserError: it is no name, or leads outside.
    """
    if not isinstance(name, str) or not name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"{root / LISTING} names {name!r}; it should name files below {root}")
    return root / name
