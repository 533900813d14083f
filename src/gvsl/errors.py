"""The exception for errors that the user can fix."""

import builtins
import re

RAISED = re.compile(r"^(gvsl\.[\w.]+): (.+)$", re.MULTILINE)
"""An error of gvsl in a traceback."""
OF_SYSTEM = re.compile(
    r"^(\w+Error): \[Errno (\d+)\] ([^\n]*?)(?:: ['\"]([^\n]+?)['\"](?: -> [^\n]+)?)?\s*\Z", re.MULTILINE
)
"""An error of a disk or of a path at the end of a traceback."""


class UserError(Exception):
    """An error that the user can fix: one line that names the cause and the fix.

    The command line prints it without a traceback and exits with code 2.
    """


class DivergedError(UserError):
    """Values in training are no longer finite; resuming would repeat this."""


def told_in(text: str) -> UserError | OSError | None:
    """Return the error that a user can fix at the end of another process's traceback, or None if there is none.

    It is an error of gvsl, or of a disk or a path that the traceback ends with.

    If there are several, the last is taken: the innermost, if one process passes on the error of another.

    Args:
        text: contains the traceback, such as the message of the error that torch raises instead.
    """
    end = OF_SYSTEM.search(text)
    if end is not None and _is_of_path(getattr(builtins, end[1], None)):
        return OSError(int(end[2]), end[3], end[4])
    kinds = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in _kinds(UserError)}
    told = [kinds[name](message) for name, message in RAISED.findall(text) if name in kinds]
    return told[-1] if told else None


def _is_of_path(kind: object) -> bool:
    """Return True for Python's errors of a disk or a path; those of a connection tell that a process was lost."""
    return (
        isinstance(kind, type) and issubclass(kind, OSError) and not issubclass(kind, (ConnectionError, TimeoutError))
    )


def _kinds(kind: type[UserError]) -> list[type[UserError]]:
    """Return a class and all that derive from it."""
    return [kind, *(each for derived in kind.__subclasses__() for each in _kinds(derived))]
