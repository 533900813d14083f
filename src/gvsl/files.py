"""Writing files and folders whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from gvsl.errors import UserError


def refuse_existing(path: Path) -> None:
    """Refuse an output that is there already, so that nothing is overwritten unasked.

    Raises:
        UserError: `path` exists.
    """
    if path.exists() or path.is_symlink():
        raise UserError(f"{path} exists already; name another output, or remove it first")


def make_writable(folder: Path) -> None:
    """Make a folder if need be, and find out before any work whether it can be written to.

    Raises:
        UserError: it can't.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"{folder} can't be written: {error.strerror}; name another folder, or make it writable"
        ) from None


def lock(file: BinaryIO, busy: str) -> None:
    """Keep other processes out of what `file` stands for, until it is closed or this process ends.

    Nothing happens where there are no locks: without POSIX, and on some network file systems.

    Raises:
        UserError: another process has it locked; `busy` says so.
    """
    try:
        import fcntl  # only where there is POSIX
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(busy) from None
    except OSError:  # some network file systems have no locks
        return


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and rename it to `path` when the block ends well.

    An existing file is replaced in one step; after an exception nothing is left behind. The temporary name ends
    as `path` does, for writers that go by the suffix.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid4().hex[:8]}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, and rename it to `path` when the block ends well.

    Raises:
        UserError: `path` exists, or its folder can't be written to.
    """
    refuse_existing(path)
    make_writable(path.parent)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    temporary.mkdir()
    try:
        yield temporary
        temporary.rename(path)
    finally:
        if temporary.exists():
            shutil.rmtree(temporary)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all, as UTF-8."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
