"""The one exception that a user is meant to read."""


class UserError(Exception):
    """A mistake of the user's: one line that names the thing and the mend.

    The command line prints it without a traceback and exits with code 2.
    """
