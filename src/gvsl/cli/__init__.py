"""The commands, nothing else: words on a command line -> typed settings -> one call into the package.

A file for each command or two. What is heavy (torch, Lightning) is imported by the command that needs it, so that help
and mistakes answer at once.
"""

from gvsl.cli.main import COMMANDS, main, run

__all__ = ["COMMANDS", "main", "run"]
