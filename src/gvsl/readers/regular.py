"""Bytes of regular files of a bounded size, and the names of files that stand in for the wanted one."""

import stat
from pathlib import Path

MAX_BYTES = 2**26
HEAD_BYTES = 512
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
ANNEX_POINTER = b"/annex/objects/"
PAGES = (b"<!doctype html", b"<html")
DOCUMENT = b"<?xml"


def check_regular(path: Path) -> int:
    """Return the size in bytes of a regular file, which can be opened without waiting for a writer.

    Raises:
        OSError: there is no such file.
        ValueError: it is a folder, a pipe or a device.
    """
    state = path.stat()
    if stat.S_ISDIR(state.st_mode):
        raise ValueError("it is a folder, not a file")
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("it is a pipe or a device, not a file")
    return state.st_size


def read_head(path: Path) -> bytes:
    """Return the first HEAD_BYTES of a regular file; OSError or ValueError as `check_regular`."""
    check_regular(path)
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """Return the content of a regular file of at most `limit` bytes.

    Raises:
        OSError: the file is missing or can't be read.
        ValueError: it is no regular file, has more bytes, or stands in for the wanted file (`foreign`).
    """
    size = check_regular(path)
    if size > limit:
        raise ValueError(f"it has more than {limit:,} bytes")
    with path.open("rb") as file:
        content = file.read(size)  # what is appended meanwhile is left out
    found = foreign(content[:HEAD_BYTES])
    if found:
        raise ValueError(f"it {found}")
    return content


def foreign(head: bytes) -> str | None:
    """Name a pointer or a web page that lies where a file should be, by its first HEAD_BYTES, and what to do.

    >>> foreign(b"version https://git-lfs.github.com/spec/v1")
    'is a Git LFS pointer to the file, not the file: fetch that with `git lfs pull`'
    >>> foreign(b"{}")
    """
    if head.startswith(LFS_POINTER):
        return "is a Git LFS pointer to the file, not the file: fetch that with `git lfs pull`"
    if ANNEX_POINTER in head.partition(b"\n")[0] and head.startswith((b"/annex/", b"../", b".git/")):
        return "is a git-annex pointer to the file, not the file: fetch that with `git annex get`"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith(PAGES) or (start.startswith((DOCUMENT, b"<!--")) and b"<html" in start):
        return "is a web page, perhaps of a login, in place of the file: download the file again"
    if start.startswith(DOCUMENT):
        return "is an XML document, perhaps an error of a server, in place of the file: download the file again"
    return None
