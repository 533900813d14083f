"""Readers of small files from strangers: bounded in size, depth and number of entries, and checked for their types.

Errors are OSError and ValueError, with the reason only; callers add the file's name and what to do.
"""

from gvsl.readers.json_file import parse_json, read_json, refuse_halves
from gvsl.readers.kinds import check_kind
from gvsl.readers.regular import check_regular, foreign, read_bytes, read_head
from gvsl.readers.yaml_file import read_yaml

__all__ = [
    "check_kind",
    "check_regular",
    "foreign",
    "parse_json",
    "read_bytes",
    "read_head",
    "read_json",
    "read_yaml",
    "refuse_halves",
]
