"""The exception for errors that the user can fix."""


class UserError(Exception):
    """An error that the user can fix: one line that names the cause and the fix.

    The command line prints it without a traceback and exits with code 2.
    """


class DivergedError(UserError):
    """The numbers of a training are no longer finite; resuming would repeat it."""
