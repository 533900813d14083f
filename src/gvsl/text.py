"""Text of messages: one line, guesses at what was meant, choices."""

import difflib
import re
import sys
from collections.abc import Iterable, Sequence

from gvsl.errors import UserError

CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
FORMULA = re.compile("'*[=+\\-@\t\r]")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def one_line(text: str) -> str:
    """Return text with each run of white space as one space."""
    return " ".join(text.split())


def printable(text: str) -> str:
    """Return a file's name as one printable line; other characters are escaped."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def visible(text: str) -> str:
    r"""Return text with its lines and tabs, and other control characters escaped, which would control a terminal.

    Marks that turn the direction of writing, and halves of surrogate pairs, are escaped too.

    >>> visible("a\x1b[31m\n")
    'a\\x1b[31m\n'
    """
    return CONTROLS.sub(lambda sign: ascii(sign[0])[1:-1], text)


def table_cell(text: str) -> str:
    """Return a text as the cell of a CSV file, with a quote before what a spreadsheet would take for a formula.

    Numbers stay as they are, negative ones too; `plain_cell` takes the quote off.

    >>> table_cell("=1+2"), table_cell("-1.5"), table_cell("scan-1")
    ("'=1+2", '-1.5', 'scan-1')
    """
    return f"'{text}" if FORMULA.match(text) and not NUMBER.fullmatch(text) else text


def plain_cell(cell: str) -> str:
    """Return the text of a cell that `table_cell` wrote."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def nearest(name: str, names: Iterable[str]) -> str:
    """Return " (did you mean X?)" with the closest of `names`, or an empty string if none is close."""
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.7)
    return f" (did you mean {found[0]}?)" if found else ""


def one_of(names: Iterable[str], what: str, name: str) -> str:
    """Return `name`, which must be one of `names`.

    Raises:
        UserError: it isn't.
    """
    known = list(names)
    if name not in known:
        raise UserError(f"there is no {what} {name}{nearest(name, known)}: choose one of {', '.join(known)}")
    return name


def note(text: str) -> None:
    """Print a note to the user in one line, on standard error."""
    print(f"gvsl: note: {one_line(text)}", file=sys.stderr)


def few(names: Sequence[str], count: int = 3, separator: str = ", ") -> str:
    """Join the first `count` names, and state how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return separator.join(names[:count]) + more
