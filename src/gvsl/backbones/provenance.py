"""The images that weights were trained on, stored beside them in learnt_from.txt by content, whatever the file names.

The file is text with one image a line, sorted: the first digits of the hash that a store keeps of each source image's
voxels. It only reveals whether an image at hand is among them.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gvsl.errors import UserError
from gvsl.readers import read_bytes
from gvsl.text import few

HASHES_NAME = "learnt_from.txt"
LABELS = "labels"
"""In the provenance of weights: the cases whose labels they were trained on, id to short hash; missing without any, and
null where it is not known."""
TRAINED_MODES = ("scratch", "finetune")
"""Modes of a transfer whose backbone learns from labels."""
NAMED = 10
"""Number of ids that are listed."""
NOT_KNOWN = "not known"
"""What is shown for them then."""
DIGITS = 16
"""Hex digits kept of a hash: among a million images, two share them by chance in one of 10^7 cases."""
LINE = re.compile(rf"[0-9a-f]{{{DIGITS}}}")


def labels_seen(provenance: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the cases whose labels weights, or those they began from, were trained on, id to short hash.

    Args:
        provenance: of the weights; that of those they began from is its entry `weights`.

    Returns:
        Empty if there were none, None if it is not known.
    """
    seen: dict[str, str] = {}
    past: Any = provenance
    while isinstance(past, dict):
        found, before = past.get(LABELS, {}), past.get("weights")
        if not isinstance(found, dict) or ("nnunet" in past and not isinstance(before, dict)):
            return None
        if LABELS not in past and past.get("mode") in TRAINED_MODES:  # written before labels were recorded
            return None
        seen |= {str(case): str(content) for case, content in found.items()}
        past = before
    return seen


def describe_labels(provenance: Mapping[str, Any]) -> str:
    """Return the ids of these cases for a reader, the first ones if they are many: or `none`, or `not known`."""
    seen = labels_seen(provenance)
    return NOT_KNOWN if seen is None else few(list(seen), NAMED) or "none"


def short_hash(content: str) -> str:
    """Return a content hash as learnt_from.txt stores it."""
    return content[:DIGITS]


def image_hashes(contents: Iterable[str]) -> frozenset[str] | None:
    """Return the short hashes of these content hashes; None if one is missing, as in stores of older versions."""
    hashes = frozenset(short_hash(content) for content in contents)
    return None if "" in hashes else hashes


def format_hashes(hashes: Iterable[str]) -> str:
    """Return the text of learnt_from.txt."""
    return "".join(f"{line}\n" for line in sorted(hashes))


def read_hashes(folder: Path) -> frozenset[str] | None:
    """Read the hashes of the images that the weights in `folder` were trained on; None if there is no such file.

    Raises:
        UserError: learnt_from.txt can't be read, or a line of it is not a short hash.
    """
    path = folder / HASHES_NAME
    try:
        lines = read_bytes(path).decode("ascii").splitlines()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read: {error}; copy it from the run again") from None
    invalid = next((number for number, line in enumerate(lines, 1) if not LINE.fullmatch(line)), None)
    if invalid is not None:
        raise UserError(f"line {invalid} of {path} is not {DIGITS} hex digits; copy it from the run again")
    return frozenset(lines)
