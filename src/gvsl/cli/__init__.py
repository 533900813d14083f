"""The commands: arguments -> typed settings -> one call into the package.

One or two commands per file. Heavy imports (torch, Lightning) are made by the command that needs them, so that help
and error messages come at once.
"""

from gvsl.cli.main import COMMANDS, main, run

__all__ = ["COMMANDS", "main", "run"]
