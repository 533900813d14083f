"""Checking paths, and writing files and folders whole or not at all."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from gvsl.errors import UserError


def refuse_existing(path: Path) -> None:
    """Refuse an output that exists, so that nothing is overwritten by mistake; UserError if `path` exists."""
    if path.exists() or path.is_symlink():
        raise UserError(f"{path} exists already; name another output, or remove it first")


def refuse_url(path: Path, what: str = "a store") -> None:
    """Refuse a URL, such as s3://bucket/store, where a folder belongs; a Path has one slash of its two.

    Args:
        path: of the folder.
        what: the folder's role, for the message.

    Raises:
        UserError: `path` is a URL.
    """
    found = re.match(r"([A-Za-z][\w+.-]+):/+", str(path))  # more than one letter: C:/ is a folder
    if found:
        url = f"{found[1]}://{str(path)[found.end() :]}"
        raise UserError(f"{url} is a URL; {what} is a folder of files: copy or mount it, and name that folder")


def make_writable(folder: Path) -> None:
    """Create a folder if necessary and check, before any work, that it is writable; UserError if it isn't."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"{folder} can't be written: {error.strerror}; name another folder, or make it writable"
        ) from None


def lock(file: BinaryIO, busy: str) -> None:
    """Lock `file` against other processes until it is closed or this process ends.

    Does nothing where locks are missing: without POSIX, and on some network file systems.

    Raises:
        UserError: another process has locked it; the message is `busy`.
    """
    try:
        import fcntl  # POSIX only
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
    """Yield a temporary path beside `path`, and rename it to `path` if the block succeeds.

    An existing file is replaced atomically; after an exception nothing is left behind. The temporary name keeps the
    suffix of `path`, for writers that depend on it.
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
    """Yield a temporary folder beside `path`, and rename it to `path` if the block succeeds.

    Raises:
        UserError: `path` exists, or its parent can't be written.
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
    """Write a UTF-8 text file whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
