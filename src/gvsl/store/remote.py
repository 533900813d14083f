"""Stores by URL: their files are copied, whole, to a folder of this machine when they are first read, and checked."""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
from numpy.typing import NDArray

from gvsl.errors import UserError
from gvsl.files import FULL, sha256_of, whole_file
from gvsl.io import Box
from gvsl.store.arrays import ArrayFile, DamagedArrayError, read_array, voxel_hash
from gvsl.text import note, one_line

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


class DamagedCopyError(UserError):
    """What came is not what the store's manifest says."""


@dataclass(frozen=True)
class RemoteFolder:
    """A folder by URL, and the folder of this machine that holds copies of its files."""

    url: str
    copies: Path
    compared: set[str] = field(default_factory=set, compare=False, repr=False)
    """Files of the images whose cases this process, or the one that gave it the store, has compared with their hash."""

    def address(self, path: Path) -> str:
        """Return the URL of a file of `copies`."""
        return "/".join([self.url, *(_quoted(self.url, part) for part in path.relative_to(self.copies).parts)])

    def array(self, files: Sequence[ArrayFile], mark: str, number: int, box: Box | None) -> NDArray[Any]:
        """Read a box of one of a case's arrays, copied now if it is not there yet, or if its copy is damaged.

        At the first call for a case, copies that are there already are compared with its hash, and copied again if
        they are wrong.

        Args:
            files: of the case, all of them, in `copies`.
            mark: the hash of the case's voxels.
            number: of the file to read.
            box: as for `read_array`.

        Raises:
            UserError: as `bring`.
            OSError: the disk is full, or can't be written.
        """
        path, shape, types = files[number]
        if files[0].path.name not in self.compared:
            self._compare(files, mark)
        elif not self.bring(files, mark):  # copied before
            try:
                return read_array(path, shape, box, types)
            except DamagedArrayError:
                self._renew(files, mark)
        return read_array(path, shape, box, types)

    def bring(self, files: Sequence[ArrayFile], mark: str) -> bool:
        """Copy a case's files that are missing, and check them; return True if any was.

        The hash is over the voxels of image and label map, so both are copied. What is damaged is told and copied once
        more, with what was there.

        Raises:
            UserError: they can't be read, or are damaged again, with the URL.
        """
        missing = [file for file in files if not file.path.is_file()]
        if not missing:
            return False
        self._bring(files, missing, mark)
        return True

    def _compare(self, files: Sequence[ArrayFile], mark: str) -> None:
        """Compare a case's copies with its hash, unless they come now, and copy them again if they are wrong."""
        if not self.bring(files, mark) and not self._is_right(files, mark):
            self._renew(files, mark)
        self.compared.add(files[0].path.name)

    def _is_right(self, files: Sequence[ArrayFile], mark: str) -> bool:
        try:
            return self._hash(files, files) == mark
        except DamagedCopyError:
            return False

    def check(self, files: Sequence[ArrayFile], mark: str) -> None:
        """Compare a case's copies with its hash; copy them if they are missing, and once more if damaged or another's.

        Raises:
            UserError: as `bring`; or this machine can't read its copies now.
        """
        if not self.bring(files, mark) and not self._is_right(files, mark):
            for file in files:  # which would be read if no others came
                file.path.unlink(missing_ok=True)
            self._renew(files, mark)

    def _renew(self, files: Sequence[ArrayFile], mark: str) -> None:
        """Copy a case's files again for damaged copies, which is told; those stay until the new ones have come."""
        names = " or ".join(self.address(file.path) for file in files)
        note(f"the copy of {names} on this machine is damaged or another's; copying it once more")
        self._bring(files, files, mark)

    def _bring(self, files: Sequence[ArrayFile], wanted: Sequence[ArrayFile], mark: str) -> None:
        _once_more(lambda: self._copy(files, wanted, mark), lambda: self._copy(files, files, mark))

    def _copy(self, files: Sequence[ArrayFile], wanted: Sequence[ArrayFile], mark: str) -> None:
        """Copy the `wanted` ones of a case's files, and put them in their places if the case then has its hash."""
        with ExitStack() as opened:
            checked = []
            for file in files:
                path = opened.enter_context(whole_file(file.path)) if file in wanted else file.path
                if file in wanted:
                    size = max(np.dtype(name).itemsize for name in file.types)
                    fetch(self.address(file.path), path, prod(file.shape) * size * 3 // 2 + SLACK)
                checked.append(file._replace(path=path))
            if self._hash(files, checked) != mark:
                names = " and ".join(self.address(file.path) for file in files)
                raise DamagedCopyError(f"{names}: the voxels don't have the hash in the store's table of cases")

    def _hash(self, files: Sequence[ArrayFile], copies: Sequence[ArrayFile]) -> str:
        """Return the hash of copies of a case's files, as `voxel_hash`; errors name the URLs."""

        def named(text: str) -> str:
            for file, copy in zip(files, copies, strict=True):
                text = text.replace(str(copy.path), self.address(file.path))
            return text

        try:
            return voxel_hash(copies)
        except DamagedArrayError as error:
            raise DamagedCopyError(named(error.cause)) from None
        except UserError as error:
            raise UserError(named(str(error))) from None


def open_remote(url: str, names: tuple[str, str], most: int) -> RemoteFolder:
    """Copy a store's manifest and table, and return its folder; a store that has changed gets another folder.

    Args:
        url: of the store.
        names: of the manifest and of the table.
        most: the most bytes of the table.

    Raises:
        UserError: the protocol is unknown, its package is missing, the URL is malformed or holds credentials or a
            query, or the files can't be read, with the URL.
    """
    url = url.rstrip("/")
    protocol = url.split("://")[0].lower()
    if protocol not in PROTOCOLS:
        raise UserError(f"{url} is a URL of another kind than {', '.join(PROTOCOLS)}: copy or mount it")
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets that are no address of IPv6, for one
        shown = re.split("[?#]", re.sub("//.*@", "//", url))[0]  # without what may be secret
        raise UserError(f"{shown} can't be read as a URL, since its host is no name or address: correct it") from None
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
    _bring_table(f"{url}/{names[1]}", folder.copies / names[1], most, manifest)
    return folder


def _bring_table(url: str, path: Path, most: int, manifest: bytes) -> None:
    """Copy a store's table unless it is there, as its manifest says; once more if it is damaged, which is told."""
    try:
        mark = json.loads(manifest)["cases"]["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError):
        mark = None  # whoever reads the manifest says what is wrong with it

    def copy() -> None:
        with whole_file(path) as temporary:
            fetch(url, temporary, most)
            if mark is not None and sha256_of(temporary) != mark:
                raise DamagedCopyError(f"{url} is broken or was changed by hand")

    if not path.is_file() or (mark is not None and sha256_of(path) != mark):
        _once_more(copy, copy)


def _once_more(work: Callable[[], None], again: Callable[[], None]) -> None:
    """Copy something, and once more if what came is damaged, which is told.

    Raises:
        DamagedCopyError: it is damaged again; with the fix.
    """
    try:
        work()
    except DamagedCopyError as error:
        note(f"{error}; copying it once more")
    else:
        return
    try:
        again()
    except DamagedCopyError as error:
        raise DamagedCopyError(f"{error}; copy the store there again, or prepare it again") from None


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
    with files.open(name, "rb", **_whole(files)) as source, path.open("wb", buffering=0) as target:
        while piece := source.read(PIECE):
            taken += len(piece)
            if taken > most:
                raise UserError(f"{url} has more than {most} bytes, the most that it may have: it is no such file")
            _write(path, target, piece)
    if expected is not None and taken != expected:
        raise OSError(f"{taken} of {expected} bytes came")


def _write(path: Path, target: FileIO, piece: bytes) -> None:
    """Write all of a piece; errors name the file, which tells them from the network's."""
    left = memoryview(piece)
    try:
        while left:
            left = left[target.write(left) :]
    except OSError as error:
        error.filename = str(path)
        raise


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
