"""The reader of all YAML: plain values only, of bounded size, depth and number of nodes, and with each key once."""

from pathlib import Path
from typing import Any

import yaml

from gvsl.readers.json_file import UTF16, refuse_halves, repeated
from gvsl.readers.kinds import check_kind
from gvsl.readers.regular import read_bytes

MAX_BYTES = 2**18
MAX_DEPTH = 32
MAX_NODES = 10_000
"""Limit for the nodes of the whole, those that an alias repeats counted each time."""
PLAIN = (str, int, float, bool, type(None))


def read_yaml(path: Path, kind: Any = Any) -> Any:
    """Read a YAML file of mappings with texts as keys, lists, texts, numbers, true and false.

    Args:
        path: of the file.
        kind: the type of the whole, see `gvsl.readers.check_kind`.

    Raises:
        OSError: the file is missing or can't be read.
        ValueError: it is no regular file or no such YAML; the message is the reason.
    """
    content = read_bytes(path, MAX_BYTES)
    if content.startswith(UTF16) or b"\0" in content[:4]:
        raise ValueError("it is UTF-16 text: save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
        _refuse_large(text)
        value = yaml.load(text, _Loader)
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    _refuse_odd(value)
    check_kind(value, kind)
    return value


class _Loader(yaml.SafeLoader):
    """Loads plain values, and refuses a key that comes twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        twice = repeated(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice is not None:
            raise ValueError(f"it sets {str(twice)[:80]} twice")
        return super().construct_mapping(node, deep)


def _refuse_large(text: str) -> None:
    """Count nodes and depth from the parser's events, before any node is built.

    Raises:
        ValueError: there are too many, or an alias lies in what it repeats.
    """
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    count = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in (anchor for anchor, _ in open_nodes):
                raise ValueError(f"its alias {event.anchor} lies in what it repeats")
            count += sizes.get(event.anchor or "", 1)
        elif isinstance(event, yaml.NodeEvent):
            if isinstance(event, yaml.ScalarEvent):
                if event.anchor is not None:
                    sizes[event.anchor] = 1
            else:
                open_nodes.append((event.anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = count - before
        if count > MAX_NODES:
            raise ValueError(f"it has more than {MAX_NODES:,} values, those that its aliases repeat included")
        if len(open_nodes) > MAX_DEPTH:
            raise ValueError(f"it nests more than {MAX_DEPTH} levels deep")


def _refuse_odd(value: Any) -> None:
    """Refuse values that JSON doesn't have, such as dates, sets and infinity."""
    if isinstance(value, dict):
        for key, item in value.items():
            check_kind(key, str, "a key")
            refuse_halves(key)
            _refuse_odd(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_odd(item)
    elif isinstance(value, str):
        refuse_halves(value)
    elif type(value) not in PLAIN:
        raise ValueError(f"it has a value of the type {type(value).__name__}: give a text in quotes")
    elif isinstance(value, float):
        check_kind(value, float, "a value")
    elif isinstance(value, int) and value.bit_length() > 64:
        raise ValueError("it has a whole number of more than 64 bits")
