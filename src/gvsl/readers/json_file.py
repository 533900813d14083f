"""The reader of all JSON: of bounded size, depth and number of entries, finite, and with each key once."""

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gvsl.readers.kinds import check_kind
from gvsl.readers.regular import MAX_BYTES, read_bytes

MAX_DEPTH = 64
MAX_ENTRIES = 4_000_000
"""Limit for all entries together; each takes up to 100 bytes of memory."""
MAX_DIGITS = 20
"""Limit for a whole number: 64 bits have 19 digits and a sign."""
UTF16 = (b"\xff\xfe", b"\xfe\xff")
STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
HALF = re.compile("[\ud800-\udfff]")
OTHERS = bytes(set(range(256)) - set(b"[]{}"))


def read_json(path: Path, kind: Any = Any, limit: int = MAX_BYTES) -> Any:
    """Read a JSON file in UTF-8, with or without a byte order mark.

    Args:
        path: of the file.
        kind: the type of the whole, see `gvsl.readers.check_kind`.
        limit: maximum size in bytes.

    Raises:
        OSError: the file is missing or can't be read.
        ValueError: it is no regular file or no such JSON; the message is the reason.
    """
    return parse_json(read_bytes(path, limit), kind)


def parse_json(content: bytes, kind: Any = Any) -> Any:
    r"""Parse the content of a JSON file, see `read_json`.

    Raises:
        ValueError: it is no JSON, nests too deeply, has too many entries, a key twice, a number that is not finite or
            of more than 64 bits, or a value of another type than `kind`.

    >>> parse_json(b'\xef\xbb\xbf{"a": 1}')
    {'a': 1}
    >>> parse_json(b'{"a": NaN}')
    Traceback (most recent call last):
    ValueError: it has NaN where a number belongs
    """
    if content.startswith(UTF16) or b"\0" in content[:4]:
        raise ValueError("it is UTF-16 text: save it as UTF-8")
    if content.count(b",") + content.count(b"[") + content.count(b"{") > MAX_ENTRIES:
        raise ValueError(f"it has more than {MAX_ENTRIES:,} entries")
    _refuse_depth(content)
    try:
        value = json.loads(
            content.decode("utf-8-sig"),
            object_pairs_hook=_object,
            parse_float=_finite,
            parse_int=_whole,
            parse_constant=_constant,
        )
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    check_kind(value, kind)
    return value


def repeated(names: Iterable[str]) -> str | None:
    """Return the first name that comes a second time, if one does."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def refuse_halves(value: Any) -> None:
    """Refuse half of a surrogate pair, which no file can be written with, in the texts of a value from outside.

    gvsl's own files have them, escaped, in the names of files that are no valid Unicode.

    Raises:
        ValueError: there is one.
    """
    if isinstance(value, str):
        if HALF.search(value):
            raise ValueError(f"it has half of a character in {ascii(value)[1:81]}")
    elif isinstance(value, dict):
        for key, item in value.items():
            refuse_halves(key)
            refuse_halves(item)
    elif isinstance(value, list):
        for item in value:
            refuse_halves(item)


def _refuse_depth(content: bytes) -> None:
    """Refuse deep nesting: each round removes the innermost brackets, so that as many are left as there are levels."""
    brackets = STRINGS.sub(b"", content).translate(None, OTHERS)
    for _ in range(MAX_DEPTH):
        if not brackets:
            return
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    if brackets:
        raise ValueError(f"it nests more than {MAX_DEPTH} levels deep, or its brackets don't match")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = repeated(name for name, _ in pairs)
        assert twice is not None
        raise ValueError(f"it has the key {twice[:80]!r} twice in one object")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it has the number {text[:40]}, which is too large")
    return value


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"it has a whole number of {len(text)} digits")
    return int(text)


def _constant(text: str) -> None:
    raise ValueError(f"it has {text} where a number belongs")
