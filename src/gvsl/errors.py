"""The exception for errors that the user can fix."""

import re

RAISED = re.compile(r"^(gvsl\.[\w.]+): (.+)$", re.MULTILINE)
"""An error of gvsl in a traceback."""


class UserError(Exception):
    """An error that the user can fix: one line that names the cause and the fix.

    The command line prints it without a traceback and exits with code 2.
    """


class DivergedError(UserError):
    """Values in training are no longer finite; resuming would repeat this."""


def told_in(text: str) -> UserError | None:
    """Return the UserError at the end of another process's traceback, as it was raised there; None if there is none.

    If there are several, the last is taken: the innermost, if one process passes on the error of another.

    Args:
        text: contains the traceback, such as the message of the error that torch raises instead.
    """
    kinds = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in _kinds(UserError)}
    told = [kinds[name](message) for name, message in RAISED.findall(text) if name in kinds]
    return told[-1] if told else None


def _kinds(kind: type[UserError]) -> list[type[UserError]]:
    """Return a class and all that derive from it."""
    return [kind, *(each for derived in kind.__subclasses__() for each in _kinds(derived))]
