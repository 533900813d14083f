"""The cases of a store as lines of text that are parsed on demand.

The text of 100,000 cases takes some 70 MB; parsed into Python objects it would take ten times as much.
"""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gvsl.cases import SPLITS
from gvsl.readers import parse_json

FIRST = ("id", "splits", "shape", "labels")
"""Keys at the beginning of each line, which are found without parsing the rest."""
HEAD = re.compile(
    rb'\{"id":"([^"\\/\x00-\x1f]+)","splits":\[((?:"[a-z]+",?)*)\],"shape":\[(\d{1,9}),(\d{1,9}),(\d{1,9})\],'
    rb'"labels":(null|\[)'
)


def row_line(row: dict[str, Any]) -> bytes:
    """Format a case of the manifest as its line, without spaces."""
    ordered = {name: row[name] for name in FIRST} | row
    return json.dumps(ordered, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode() + b"\n"


@dataclass(frozen=True, eq=False)
class CaseTable:
    """The line of every case, and the columns that are needed often."""

    lines: bytes
    numbers: dict[str, int]
    """Line number of each id."""
    starts: NDArray[np.int64]
    """Offset of each line, and the end of the last."""
    shapes: NDArray[np.int32]
    """(cases, 3)"""
    labelled: NDArray[np.bool_]
    splits: NDArray[np.uint8]
    """One bit per element of SPLITS."""

    @classmethod
    def parse(cls, lines: bytes) -> "CaseTable":
        """Index the lines and parse their first keys; ValueError if a line is malformed, or two have the same id."""
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
                raise ValueError(f"line {number + 1} of its cases is malformed")
            name, named, *sides, labels = head.groups()
            if named not in bits:
                bits[named] = _bits(named)
            numbers[name.decode()] = number
            shapes[number] = sides
            labelled[number] = labels == b"["
            splits[number] = bits[named]
            start = starts[number + 1] = lines.index(b"\n", start) + 1
        if len(numbers) != count or start != len(lines):
            raise ValueError("two cases have the same id, or the last line is cut short")
        return cls(lines, numbers, starts, shapes, labelled, splits)

    @cached_property
    def names_subjects(self) -> bool:
        """True if a case is not the only one of its subject; no text in a line holds its key with these quotes."""
        return b'"subject":' in self.lines

    def line(self, name: str) -> bytes:
        """Return a case's line; KeyError if there is no such case."""
        number = self.numbers[name]
        return self.lines[self.starts[number] : self.starts[number + 1]]

    def of_split(self, name: str) -> NDArray[np.int64]:
        """Return the line numbers of a split's cases."""
        bit = 1 << SPLITS.index(name) if name in SPLITS else 0
        return np.flatnonzero(self.splits & bit)


def _bits(named: bytes) -> int:
    """Encode the splits of a line, such as `"train","val"`; ValueError if there is no such split."""
    names: list[str] = parse_json(b"[" + named + b"]")
    return sum(1 << SPLITS.index(name) for name in set(names))
