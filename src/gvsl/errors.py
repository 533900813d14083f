"""The exception for errors that the user can fix."""

import re

RAISED = re.compile(r"^(gvsl\.[\w.]+): (.+)$", re.MULTILINE)
"""An error of gvsl's own in a traceback."""


class UserError(Exception):
    """An error that the user can fix: one line that names the cause and the fix.

    The command line prints it without a traceback and exits with code 2.
    """


class DivergedError(UserError):
    """The numbers of a training are no longer finite; resuming would repeat it."""


def told_in(text: str) -> UserError | None:
    """Return the user's error that a traceback of another process ends with, as it was raised there; None without one.

    Of several the last is taken, which is the innermost where one process passes on what another has told.

    Args:
        text: with the traceback, such as the message of what torch raises in its place.
    """
    kinds = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in _kinds(UserError)}
    told = [kinds[name](message) for name, message in RAISED.findall(text) if name in kinds]
    return told[-1] if told else None


def _kinds(kind: type[UserError]) -> list[type[UserError]]:
    """Return a class and all that derive from it."""
    return [kind, *(each for derived in kind.__subclasses__() for each in _kinds(derived))]
