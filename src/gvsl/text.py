"""How the command line says things: lists, guesses, one line."""

import difflib
from collections.abc import Iterable, Sequence

from gvsl.errors import UserError


def one_line(text: str) -> str:
    return " ".join(text.split())


def printable(text: str) -> str:
    """A name of a file as one line that can be printed: what can't stand in one is escaped."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def nearest(name: str, names: Iterable[str]) -> str:
    """A guess at what was meant, to go behind the name, or nothing."""
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.7)
    return f" (did you mean {found[0]}?)" if found else ""


def one_of(names: Iterable[str], what: str, name: str) -> str:
    """`name`, which must be one of `names`.

    Raises:
        UserError: it isn't.
    """
    known = list(names)
    if name not in known:
        raise UserError(f"there is no {what} {name}{nearest(name, known)}: there is {listed(known)}")
    return name


def few(names: Sequence[str], count: int, separator: str = ", ") -> str:
    """Join the first `count` names, and state how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return separator.join(names[:count]) + more
