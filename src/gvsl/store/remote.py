"""Stores by URL: their files are copied, whole, to a folder of this machine when they are first read."""

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from gvsl.errors import UserError
from gvsl.files import FULL, whole_file
from gvsl.text import one_line

T = TypeVar("T")

PROTOCOLS = ("s3", "gs", "gcs", "hf", "http", "https")
CACHE = "GVSL_CACHE"
"""The variable with the folder for copies."""
TRIES = 5
FIRST_WAIT = 0.5
"""Seconds before the second try; each further wait is twice as long."""
STALLED = 60
"""Seconds without an answer or a byte after which a try has failed."""
PIECE = 2**20
"""Bytes copied at a time."""
LISTED = 2**26
"""Limit for manifest.json."""
SLACK = 2**20
"""Bytes that an array may take on top of one and a half times its voxels, which can't be compressed."""
GONE = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
"""Errors that another try doesn't mend."""
REFUSED = (401, 403, 404, 410)
"""Answers over HTTP that say the same."""


@dataclass(frozen=True)
class RemoteFolder:
    """A folder by URL, and the folder of this machine that holds copies of its files."""

    url: str
    copies: Path

    def fetched(self, path: Path, most: int) -> Path:
        """Return a file of `copies`, copied now if it is not there yet.

        Args:
            path: in `copies`.
            most: the most bytes that the file may have.

        Raises:
            UserError: it can't be read, with the URL.
            OSError: the disk is full, or can't be written.
        """
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as temporary:
                fetch(self.address(path), temporary, most)
        return path

    def address(self, path: Path) -> str:
        """Return the URL of a file of `copies`."""
        return "/".join([self.url, *(_quoted(self.url, part) for part in path.relative_to(self.copies).parts)])

    def array(self, path: Path, shape: tuple[int, ...], size: int, read: Callable[[Path], T]) -> T:
        """Read an array of a shape, `size` bytes a voxel; a copy that turns out to be damaged is made once more.

        Raises:
            UserError: as `fetched`, or `read` refuses the second copy too.
        """
        most = prod(shape) * size * 3 // 2 + SLACK
        fresh = not path.is_file()
        try:
            return read(self.fetched(path, most))
        except UserError as error:
            path.unlink(missing_ok=True)
            if fresh:
                raise UserError(str(error).replace(str(path), self.address(path))) from None
        return read(self.fetched(path, most))


def open_remote(url: str, names: tuple[str, str], most: int) -> RemoteFolder:
    """Copy a store's manifest and table, and return its folder; a store that has changed gets another folder.

    Args:
        url: of the store.
        names: of the manifest and of the table.
        most: the most bytes of the table.

    Raises:
        UserError: the protocol is unknown, its package is missing, the URL holds credentials or a query, or the files
            can't be read, with the URL.
    """
    url = url.rstrip("/")
    protocol = url.split("://")[0].lower()
    if protocol not in PROTOCOLS:
        raise UserError(f"{url} is a URL of another kind than {', '.join(PROTOCOLS)}: copy or mount it")
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:  # messages and records would tell it
        raise UserError(
            f"{protocol}://...: a store's URL holds a user, password or query: leave them out, and give credentials as "
            "the protocol's own tools take them, such as by environment variables"
        )
    place = cache_folder() / hashlib.sha256(url.encode()).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    name = url.rsplit("/", 1)[1] or "store"
    with whole_file(place / names[0]) as temporary:
        fetch(f"{url}/{names[0]}", temporary, LISTED)
        manifest = temporary.read_bytes()
    folder = RemoteFolder(url, place / hashlib.sha256(manifest).hexdigest()[:16] / name)
    folder.copies.mkdir(parents=True, exist_ok=True)
    with whole_file(folder.copies / names[0]) as temporary:
        temporary.write_bytes(manifest)
    folder.fetched(folder.copies / names[1], most)
    return folder


def cache_folder() -> Path:
    """Return the folder for copies of stores: that of GVSL_CACHE, else in the user's own cache."""
    given = os.environ.get(CACHE)
    home = Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "gvsl"
    return home.expanduser().resolve() / "stores"


def fetch(url: str, path: Path, most: int) -> None:
    """Copy a file by URL; tried again, after a wait, where the network fails.

    Raises:
        UserError: it is not there, can't be read, or has more than `most` bytes; with the URL.
    """
    for attempt in range(1, TRIES + 1):
        try:
            _copy(url, path, most)
            return
        except UserError:
            raise
        except ImportError as error:
            fix = 'pip install "gvsl[remote]"'
            raise UserError(f"{url} needs a package that is not installed ({_reason(error)}): {fix}") from None
        except Exception as error:  # each protocol's package has errors of its own
            if isinstance(error, OSError) and (error.errno in FULL or error.filename == str(path)):
                raise  # of this machine's disk
            reason = _reason(error)
            if _is_gone(error):
                raise UserError(f"{url} can't be read ({reason}): check the URL and your access to it") from None
        if attempt < TRIES:
            time.sleep(FIRST_WAIT * 2 ** (attempt - 1))
    raise UserError(f"{url} can't be read after {TRIES} tries ({reason}): check the network, and start again")


def _copy(url: str, path: Path, most: int) -> None:
    """Copy a file once."""
    from fsspec.core import url_to_fs

    files, name = url_to_fs(url, **_options(url.split("://")[0].lower()))
    expected = files.info(name).get("size")
    if expected is not None and expected > most:
        raise UserError(f"{url} has {expected} bytes, and {most} are the most that it may have: it is no such file")
    taken = 0
    with files.open(name, "rb", **_whole(files)) as source, path.open("wb") as target:
        while piece := source.read(PIECE):
            taken += len(piece)
            if taken > most:
                raise UserError(f"{url} has more than {most} bytes, the most that it may have: it is no such file")
            target.write(piece)
    if expected is not None and taken != expected:
        raise OSError(f"{taken} of {expected} bytes came")


def _whole(files: Any) -> dict[str, Any]:
    """Return the options for reading a file from its beginning to its end, without a cache of its own in memory."""
    return {"block_size": 0} if "http" in files.protocol else {"cache_type": "readahead", "block_size": 8 * PIECE}


def _options(protocol: str) -> dict[str, Any]:
    """Return the options of a protocol's file system: how long it waits."""
    if protocol in ("http", "https"):
        from aiohttp import ClientTimeout

        return {"client_kwargs": {"timeout": ClientTimeout(sock_connect=STALLED, sock_read=STALLED)}}
    if protocol == "s3":
        waits = {"connect_timeout": STALLED, "read_timeout": STALLED, "retries": {"max_attempts": 1}}
        return {"config_kwargs": waits}
    return {}


def _quoted(url: str, part: str) -> str:
    """Return a file's name as it is written in a URL; object stores take it as it is."""
    return quote(part) if url.startswith("http") else part


def _is_gone(error: BaseException) -> bool:
    """Return True if a server has answered that there is no such file, or not for this user; another try is no use."""
    if not isinstance(error, GONE):
        return False
    cause = error.__cause__  # fsspec says of a server that can't be reached, too, that there is no such file
    return cause is None or isinstance(cause, GONE) or getattr(cause, "status", None) in REFUSED


def _reason(error: BaseException) -> str:
    return one_line(str(error))[:200] or type(error).__name__
