"""What images and label maps hold, by which a result that is there already is known to be theirs."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from gvsl.cases import Case
from gvsl.files import sha256_of
from gvsl.io import UnusableFile
from gvsl.io.read import files_of


def image_content(image: Case) -> str:
    """Return the SHA-256, in hex, of all that an image is read from, whatever its files are called.

    Raises:
        UnusableFile: a file can't be read.
    """
    found = [file_content(each.image, each.parts) for each in image.images]
    return found[0] if len(found) == 1 else hashlib.sha256(" ".join(found).encode()).hexdigest()


def file_content(path: Path, parts: Sequence[str] = ()) -> str:
    """Return the same of a volume at a path, as for `gvsl.io.read_volume`."""
    try:
        found = [sha256_of(file) for file in files_of(path, parts)]
    except OSError as error:
        raise UnusableFile(f"can't be read: {error.strerror or error}") from None
    return found[0] if len(found) == 1 else hashlib.sha256(" ".join(found).encode()).hexdigest()
