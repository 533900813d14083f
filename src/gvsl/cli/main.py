"""Entry point: the commands by name, and the form of error messages."""

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from types import FrameType
from typing import NoReturn

from jsonargparse import set_parsing_settings

from gvsl.arguments import Command
from gvsl.cli.benchmark import benchmark
from gvsl.cli.data import inspect, phantom, prepare
from gvsl.cli.demo import demo
from gvsl.cli.doctor import doctor
from gvsl.cli.export import export
from gvsl.cli.output import summary, visible_output
from gvsl.cli.predict import predict
from gvsl.cli.pretrain import methods, pretrain
from gvsl.cli.propagate import propagate
from gvsl.cli.push import push
from gvsl.cli.register import register
from gvsl.cli.report import report
from gvsl.cli.transfer import transfer
from gvsl.errors import UserError
from gvsl.processes import refuse_copies
from gvsl.text import nearest, one_line
from gvsl.version import __version__

USER_ERRNOS = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EISDIR),
    *(errno.ENAMETOOLONG, errno.EMFILE, errno.ENFILE, errno.EFBIG),
)
"""Errors of a path or a disk that the user can fix; they are reported in one line."""
OVERVIEW = """usage: gvsl COMMAND ...

Pre-train 3D medical image networks without labels, by matching scans of different subjects.

{commands}

Run gvsl COMMAND --help to see how to use a command, and gvsl --version for the version. Start with: gvsl demo
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
    "propagate": propagate,
    "register": register,
    "export": export,
    "benchmark": benchmark,
    "report": report,
    "doctor": doctor,
    "push": push,
}

TOGETHER = {"pretrain": ("torchrun", "srun")}
"""Launchers of several processes of one run, by the command that knows how to be one of them."""
READERS = ("inspect", "methods", "doctor")
"""Commands that write nothing."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 2 after a user's error, 130 after Ctrl-C or SIGTERM."""
    _print_anything()
    with visible_output():
        return _exit_code(argv)


def _exit_code(argv: Sequence[str] | None) -> int:
    try:
        with _signals_stop():
            run(sys.argv[1:] if argv is None else argv)
            if sys.stdout is not None:  # it is None where the caller closed it
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


@contextmanager
def _signals_stop() -> Iterator[None]:
    """Stop after SIGTERM, by which a scheduler ends a job, as after Ctrl-C; a second one doesn't disturb the clean-up.

    Raises:
        KeyboardInterrupt: one of them came, also where a library took the interruption for a fault of what it read.
    """
    untouched = (signal.SIG_DFL, signal.default_int_handler)
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    previous = {number: handler for number, handler in previous.items() if handler in untouched}
    if threading.current_thread() is not threading.main_thread():
        previous = {}  # no other thread may set a handler
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        if number == signal.SIGTERM:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stopped.set()
        raise KeyboardInterrupt

    for number in previous:
        signal.signal(number, stop)
    try:
        yield
    except Exception as error:
        if stopped.is_set():
            raise KeyboardInterrupt from error
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _print_anything() -> None:
    """Escape what a terminal can't show, such as a name in Greek on one that knows ASCII alone."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


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
        print(f"gvsl {__version__}")
    elif name in COMMANDS:
        if name not in READERS:
            refuse_copies(f"gvsl {name}", os.environ, TOGETHER.get(name, ()))
        set_parsing_settings(docstring_parse_attribute_docstrings=True)
        COMMANDS[name](argv[1:])
    else:
        raise UserError(f"there is no command {name}{nearest(name, COMMANDS)}; gvsl --help lists them")


def _report_error(message: str) -> int:
    """Print a user's error in one line, and return its exit code."""
    print(f"gvsl: error: {one_line(message)}", file=sys.stderr)
    return 2
