"""Entry point: the commands by name, and the form of error messages."""

import errno
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from jsonargparse import set_parsing_settings

from gvsl.arguments import Command
from gvsl.cli.benchmark import benchmark
from gvsl.cli.data import inspect, phantom, prepare
from gvsl.cli.demo import demo
from gvsl.cli.output import summary, visible_output
from gvsl.cli.predict import predict
from gvsl.cli.pretrain import methods, pretrain
from gvsl.cli.report import report
from gvsl.cli.transfer import transfer
from gvsl.errors import UserError
from gvsl.text import nearest, one_line

USER_ERRNOS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EISDIR)
"""Errors of a path or a disk that the user can fix; they are reported in one line."""
OVERVIEW = """usage: gvsl COMMAND ...

Pre-train 3D medical image networks without labels, by matching scans of different subjects.

{commands}

gvsl COMMAND --help shows how to use one. Start with: gvsl demo
"""
COMMANDS: dict[str, Command] = {
    "demo": demo,
    "phantom": phantom,
    "prepare": prepare,
    "inspect": inspect,
    "pretrain": pretrain,
    "methods": methods,
    "transfer": transfer,
    "predict": predict,
    "benchmark": benchmark,
    "report": report,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 2 after a user's error, 130 after Ctrl-C."""
    with visible_output():
        return _exit_code(argv)


def _exit_code(argv: Sequence[str] | None) -> int:
    try:
        run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except UserError as error:
        return _report_error(str(error))
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of a pipe, such as `| head`, has closed it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        if error.errno not in USER_ERRNOS:
            raise
        return _report_error(f"{error.filename or 'the output'}: {error.strerror}")
    except KeyboardInterrupt as stop:
        print("gvsl: stopped", *stop.args, file=sys.stderr)
        return 130
    return 0


def run(argv: Sequence[str]) -> None:
    """Run a command, given its name and its arguments.

    Raises:
        UserError: there is no such command, its arguments are wrong, or it can't do what they ask for.
    """
    name = argv[0] if argv else "--help"
    if name in ("-h", "--help"):
        lines = (f"  {command:<10} {summary(function)}" for command, function in COMMANDS.items())
        print(OVERVIEW.format(commands="\n".join(lines)), end="")
    elif name == "--version":
        print(f"gvsl {version('gvsl')}")
    elif name in COMMANDS:
        set_parsing_settings(docstring_parse_attribute_docstrings=True)
        COMMANDS[name](argv[1:])
    else:
        raise UserError(f"there is no command {name}{nearest(name, COMMANDS)}; gvsl --help lists them")


def _report_error(message: str) -> int:
    """Print a user's error in one line, and return its exit code."""
    print(f"gvsl: error: {one_line(message)}", file=sys.stderr)
    return 2
