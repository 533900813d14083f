"""Which images weights were learnt from, beside them in learnt_from.txt: by content, whatever the files were called.

The file is text, one image a line, sorted: the beginning of the hash that a store has of each source image's voxels.
Nothing about the images can be told from it but whether one that is at hand is among them.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from gvsl.errors import UserError

LEARNT_NAME = "learnt_from.txt"
DIGITS = 16
"""Of a hash in hex: among a million images two share them by chance in one of 10^7 cases."""
LINE = re.compile(rf"[0-9a-f]{{{DIGITS}}}")


def shortened(content: str) -> str:
    """A content hash as learnt_from.txt has it."""
    return content[:DIGITS]


def learnt_from(contents: Iterable[str]) -> frozenset[str] | None:
    """What is written of these content hashes; None if one isn't known, as in stores of an earlier gvsl."""
    found = frozenset(shortened(content) for content in contents)
    return None if "" in found else found


def learnt_text(images: Iterable[str]) -> str:
    """The text of learnt_from.txt."""
    return "".join(f"{image}\n" for image in sorted(images))


def read_learnt(folder: Path) -> frozenset[str] | None:
    """What weights in `folder` were learnt from; None if it isn't known.

    Raises:
        UserError: learnt_from.txt can't be read, or a line of it is no such hash.
    """
    path = folder / LEARNT_NAME
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read: {error}; copy it from the run again") from None
    odd = next((number for number, line in enumerate(lines, 1) if not LINE.fullmatch(line)), None)
    if odd is not None:
        raise UserError(f"line {odd} of {path} is not {DIGITS} hex digits; copy it from the run again")
    return frozenset(lines)
