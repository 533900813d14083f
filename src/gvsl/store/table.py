"""The cases of a store as the lines of one text, of which only what is asked for is parsed.

At 100,000 cases the text is some 70 MB, and the same as Python objects ten times that.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gvsl.cases import SPLITS

FIRST = ("id", "splits", "shape", "labels")
"""What each line begins with, to be found without parsing the rest."""
HEAD = re.compile(
    rb'\{"id":"([^"\\/\x00-\x1f]+)","splits":\[((?:"[a-z]+",?)*)\],"shape":\[(\d{1,9}),(\d{1,9}),(\d{1,9})\],'
    rb'"labels":(null|\[)'
)


def row_line(row: dict[str, Any]) -> bytes:
    """A case of the manifest as its line, without any spaces, ended."""
    ordered = {name: row[name] for name in FIRST} | row
    return json.dumps(ordered, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode() + b"\n"


@dataclass(frozen=True, eq=False)
class CaseTable:
    """Every case's line, and of each line what is asked for often."""

    lines: bytes
    numbers: dict[str, int]
    """The place of each id among the lines."""
    starts: NDArray[np.int64]
    """Where each line begins, and the last one ends."""
    shapes: NDArray[np.int32]
    """(cases, 3)"""
    labelled: NDArray[np.bool_]
    splits: NDArray[np.uint8]
    """A bit for each of SPLITS."""

    @classmethod
    def parse(cls, lines: bytes) -> "CaseTable":
        """Find the lines, and read what each begins with.

        Raises:
            ValueError: a line isn't that of a case, or two have one id.
        """
        count = lines.count(b"\n")
        starts = np.zeros(count + 1, np.int64)
        shapes = np.zeros((count, 3), np.int32)
        labelled, splits = np.zeros(count, np.bool_), np.zeros(count, np.uint8)
        numbers: dict[str, int] = {}
        bits: dict[bytes, int] = {}
        start = 0
        for number in range(count):
            head = HEAD.match(lines, start)
            if head is None:
                raise ValueError(f"line {number + 1} of its cases is not one")
            name, named, *sides, labels = head.groups()
            if named not in bits:
                bits[named] = _bits(named)
            numbers[name.decode()] = number
            shapes[number] = sides
            labelled[number] = labels == b"["
            splits[number] = bits[named]
            start = starts[number + 1] = lines.index(b"\n", start) + 1
        if len(numbers) != count or start != len(lines):
            raise ValueError("two cases share an id, or the last line is cut short")
        return cls(lines, numbers, starts, shapes, labelled, splits)

    def line(self, name: str) -> bytes:
        """A case's line.

        Raises:
            KeyError: there is no such case.
        """
        number = self.numbers[name]
        return self.lines[self.starts[number] : self.starts[number + 1]]

    def of_split(self, name: str) -> NDArray[np.int64]:
        """The places of a split's cases among the lines."""
        bit = 1 << SPLITS.index(name) if name in SPLITS else 0
        return np.flatnonzero(self.splits & bit)


def _bits(named: bytes) -> int:
    """The splits of a line, such as `"train","val"`, as bits.

    Raises:
        ValueError: there is no such split.
    """
    names: list[str] = json.loads(b"[" + named + b"]")
    return sum(1 << SPLITS.index(name) for name in set(names))
