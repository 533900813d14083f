"""Text of messages: one line, guesses at what was meant, choices."""

import difflib
import sys
from collections.abc import Iterable, Sequence

from gvsl.errors import UserError


def one_line(text: str) -> str:
    """Return text with each run of white space as one space."""
    return " ".join(text.split())


def printable(text: str) -> str:
    """Return a file's name as one printable line; other characters are escaped."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


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


def few(names: Sequence[str], count: int, separator: str = ", ") -> str:
    """Join the first `count` names, and state how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return separator.join(names[:count]) + more
