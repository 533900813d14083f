"""Checking paths, writing files and folders whole or not at all, and holding an output for one process.

What is being written has a name that begins with `.gvsl-`, so that a later call can tell what a killed one left.
"""

import errno
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from gvsl.errors import UserError

TEMPORARY = ".gvsl-"
"""How the name of everything begins that is gone when its writer ends by itself."""
LOCK_NAME = f"{TEMPORARY}lock"
MAX_NAME = 255
"""Bytes of a file's name that the common file systems take."""
ROOM = len(".partial")
"""Bytes that a command may add to the name of its output."""
PATIENCE = 2.0
"""Seconds to wait for a lock: as long as the helpers of a killed process may need to end."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a disk without room."""
FULL_TEXT = re.compile(r"No space left on device|os error (28|122)\b|Disk quota exceeded")
"""The same in the errors of safetensors and torch."""


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_all(paths: Iterable[Path]) -> str:
    """Return the SHA-256 of the SHA-256s of files' bytes, in their order, in hex."""
    return hashlib.sha256(b"".join(bytes.fromhex(sha256_of(path)) for path in paths)).hexdigest()


def refuse_existing(path: Path) -> None:
    """Refuse an output that exists, so that nothing is overwritten by mistake; UserError if `path` exists."""
    if path.exists() or path.is_symlink():
        raise UserError(f"{path} exists already; name another output")


def refuse_long_name(path: Path, room: int = ROOM) -> None:
    """Refuse a name that leaves no `room`, in bytes, for what is added to it; UserError if it is too long."""
    size = len(os.fsencode(path.name))
    if size > MAX_NAME - room:
        raise UserError(
            f"the name {path.name[:20]}... has {size} bytes, {MAX_NAME - room} are the most here; give a shorter one"
        )


def refuse_url(path: Path, what: str = "a store") -> None:
    """Refuse a URL, such as s3://bucket/store, where a folder belongs; a Path has one slash of its two.

    Args:
        path: of the folder.
        what: the folder's role, for the message.

    Raises:
        UserError: `path` is a URL.
    """
    url = url_of(path)
    if url is not None:
        raise UserError(f"{url} is a URL; {what} is a folder of files: copy or mount it, and name that folder")


def url_of(path: Path) -> str | None:
    """Return the URL that a path was made of; None for a path of this machine."""
    found = re.match(r"([A-Za-z][\w+.-]+):/+", str(path))  # more than one letter: C:/ is a folder
    return f"{found[1]}://{str(path)[found.end() :]}" if found else None


def shown(path: Path) -> str:
    """Return a path for messages: as it is, or the URL that it was made of."""
    return url_of(path) or str(path)


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


def lock(file: BinaryIO, busy: str) -> bool:
    """Lock `file` against other processes until it is closed or this process ends; return True if that worked.

    Does nothing where locks are missing: without POSIX, and on some network file systems.

    Raises:
        UserError: another process has locked it; the message is `busy`.
    """
    try:
        import fcntl  # POSIX only
    except ImportError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(busy) from None
    except OSError:  # some network file systems have no locks
        return False
    return True


@contextmanager
def claimed(
    path: Path, command: str, *, inside: bool = False, deep: bool = False, patience: float = PATIENCE
) -> Iterator[None]:
    """Hold an output for this process, and remove what killed processes left of it and of others in its folder.

    Where locks are missing it holds and removes nothing.

    Args:
        path: the output, which need not exist.
        command: that writes it, for the message.
        inside: the output is a folder that is created if necessary and holds the lock itself, as one that many calls
            add to; else the lock lies beside it.
        deep: the output is a folder of which every file is the command's own: clean it at every depth.
        patience: seconds to wait for another process.

    Raises:
        UserError: another process holds it, its name is too long, or the folder of the lock can't be written.
    """
    refuse_long_name(path)
    place = lock_path(path, inside=inside)
    made = [folder for folder in (place.parent, *place.parent.parents) if not folder.exists()]
    make_writable(place.parent)
    file, locked = _lock_patiently(place, f"another {command} is writing {path}; wait until it has ended", patience)
    try:
        if locked:
            sweep(place.parent, own=place)
            for left in leftovers(path, inside=inside, deep=deep):
                remove(left)
        yield
    finally:
        with suppress(OSError):  # also while it is held: whoever waits for it looks whether it is still there
            place.unlink()
        file.close()
        for folder in made:  # of an output that was not written
            with suppress(OSError):
                folder.rmdir()


def is_claimed(path: Path) -> bool:
    """Return True if a process holds the output `path`, with its lock beside it, or may hold it."""
    try:
        with lock_path(path).open("rb") as file:
            return not lock(file, "")
    except UserError:
        return True
    except OSError:
        return False


def real_path(path: Path) -> Path:
    """Return an absolute path without links; a link to itself, for which `Path.resolve` raises, stays as it is."""
    return Path(os.path.realpath(path))


def lock_path(path: Path, *, inside: bool = False) -> Path:
    """Return the lock of an output."""
    real = real_path(path)
    return real / LOCK_NAME if inside else real.with_name(f"{_mark(real)}.lock")


def leftovers(path: Path, *, inside: bool = False, deep: bool = False) -> list[Path]:
    """Return what killed processes left of an output; to be called while it is claimed, with the same arguments.

    What belongs to another output in the same folder, which has a lock of its own there, is not among it.
    """
    real = real_path(path)
    found = [*(real.glob(f"{TEMPORARY}*") if inside else ()), *(real.rglob(f"{TEMPORARY}*") if deep else ())]
    found = [left for left in found if not left.name.endswith("lock") and not _lock_of(left).exists()]
    if not inside:
        earlier = re.compile(rf"\.{re.escape(real.name)}\.[0-9a-f]{{8}}")  # as gvsl 0.1.0 named them
        beside = _entries(real.parent)
        found += [left for left in beside if left.name.startswith(f"{_mark(real)}-") or earlier.fullmatch(left.name)]
    return sorted(found)


def is_temporary(name: str) -> bool:
    """Return True for the name of something that is being written, or was when its writer was killed."""
    return name.startswith(TEMPORARY) or re.fullmatch(r"\..+\.[0-9a-f]{8}|\.[0-9a-f]{8}\..+", name) is not None


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _mark(path: Path) -> str:
    """Return how the names begin of what belongs to an output beside it, however long its own name is."""
    return TEMPORARY + hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]


def _lock_of(left: Path) -> Path:
    """Return the lock under which something was written, if that was one beside its output."""
    return left.with_name(f"{left.name[: len(TEMPORARY) + 8]}.lock")


def sweep(folder: Path, own: Path | None = None) -> None:
    """Remove the locks in a folder that no process holds, but for `own`, and what was being written under them."""
    for place in folder.glob(f"{TEMPORARY}*.lock"):
        if place == own:
            continue
        with suppress(OSError, UserError), place.open("rb") as file:
            if lock(file, ""):
                for left in folder.glob(f"{place.stem}-*"):
                    remove(left)
                place.unlink()


def _lock_patiently(place: Path, busy: str, patience: float) -> tuple[BinaryIO, bool]:
    until = time.monotonic() + patience
    while True:
        file = place.open("ab")
        try:
            locked = lock(file, busy)
            if place.exists() and os.path.samestat(os.fstat(file.fileno()), place.stat()):
                return file, locked
        except UserError:
            if time.monotonic() > until:
                file.close()
                raise
            time.sleep(0.05)
        file.close()


def _temporary(path: Path) -> Path:
    """Return a new name beside `path` for what will become it, short and with the same ending."""
    return path.with_name(f"{_mark(path)}-{uuid4().hex[:8]}{''.join(path.suffixes[-2:])[-16:]}")


@contextmanager
def whole_file(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and rename it to `path` if the block succeeds.

    An existing file is replaced atomically; after an exception nothing is left behind. The temporary name keeps the
    suffix of `path`, for writers that depend on it.

    Args:
        path: the file.
        sync: flush it to the disk first, so that it survives a power cut too.

    Raises:
        OSError: it can't be written; the error names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        with naming(path):
            yield temporary
            if sync:
                _flush(temporary)
            os.replace(temporary, path)
            if sync:
                _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let errors of a disk that is full name the file, whichever library reports them."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL or error.filename is None:
            error.filename = str(path)
        raise
    except Exception as error:  # safetensors and torch have errors of their own
        if not _is_of_full_disk(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def _is_of_full_disk(error: BaseException | None) -> bool:
    """Return True if an error, or one that it followed, says that a disk is full."""
    while error is not None:
        if (isinstance(error, OSError) and error.errno in FULL) or FULL_TEXT.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _flush(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems don't flush folders
            raise
    finally:
        os.close(opened)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, and rename it to `path` if the block succeeds.

    Raises:
        UserError: `path` exists, or its parent can't be written.
    """
    refuse_existing(path)
    make_writable(path.parent)
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
        temporary.rename(path)
    finally:
        if temporary.exists():
            shutil.rmtree(temporary)


@contextmanager
def scratch_folder(command: str) -> Iterator[Path]:
    """Yield a new folder among the temporary files, and remove it; a later one removes what a killed one left.

    Args:
        command: that needs it, for messages.
    """
    name = Path(tempfile.gettempdir()) / uuid4().hex
    with claimed(name, command):
        temporary = _temporary(name)
        temporary.mkdir(mode=0o700)
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str, *, sync: bool = False) -> None:
    """Write a UTF-8 text file whole or not at all; `sync` is that of `whole_file`.

    What is no valid Unicode, such as half a surrogate pair in a name, is written as its escape.
    """
    with whole_file(path, sync=sync) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
