"""Names of cases that are safe as names of files."""

import hashlib
import re
import unicodedata
from pathlib import Path

from gvsl.errors import UserError

LONGEST = 100


def safe_id(name: str) -> str:
    """`name` with all but letters, digits, dots, hyphens and underscores replaced, short enough for a file.

    A name that had to be shortened ends in a hash of the whole, so that two don't become one.
    """
    plain = re.sub(r"[^\w.-]", "_", unicodedata.normalize("NFC", name))
    if plain.startswith((".", "-")):
        plain = "_" + plain[1:]
    if len(plain.encode()) > LONGEST:
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
        plain = plain.encode()[: LONGEST - 9].decode("utf-8", "ignore") + "-" + digest
    return plain or "_"


def refuse_url(path: Path, what: str = "a store") -> None:
    """Refuse what is a place in an object storage and not a folder.

    Args:
        path: a folder, or a URL whose slashes a Path has made one of.
        what: the folder is.

    Raises:
        UserError: `path` is something like s3://bucket/store.
    """
    found = re.match(r"([A-Za-z][\w+.-]+):/+", str(path))  # more than one letter: C:/ is a folder
    if found:
        url = f"{found[1]}://{str(path)[found.end() :]}"
        raise UserError(f"{url} is a URL; {what} is a folder of files: copy or mount it, and name that folder")
