"""Types of values that a stranger's JSON or YAML holds, given as annotations."""

from functools import cache
from math import isfinite
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

NAMES = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}
MAX_SHOWN = 60


def check_kind(value: Any, kind: Any, where: str = "it") -> None:
    """Check that a value of parsed JSON or YAML is of a type.

    Args:
        value: to check.
        kind: Any, int, float (whole numbers are also of it), str, bool, None, Literal, a union of these, a dict, a
            list or a tuple of them (a list in JSON), or a TypedDict, which allows further keys.
        where: the value's name, for the message.

    Raises:
        ValueError: the value, or one in it, is of another type or is not finite.

    >>> check_kind({"a": [1, 2.5]}, dict[str, list[float]])
    >>> check_kind({"a": [1, "b"]}, dict[str, list[float]], "rows")
    Traceback (most recent call last):
    ValueError: rows.a[1] is 'b', not a number
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any or kind is object:
        return
    if origin in (Union, UnionType):
        _check_union(value, arguments, where)
    elif origin is Literal:
        _require(any(value == one and type(value) is type(one) for one in arguments), value, kind, where)
    elif is_typeddict(kind):
        _check_entries(value, kind, where)
    elif origin is list:
        _require(isinstance(value, list), value, list, where)
        for number, item in enumerate(value):
            check_kind(item, arguments[0], f"{where}[{number}]")
    elif origin is tuple:
        _check_tuple(value, arguments, where)
    elif origin is dict:
        _require(isinstance(value, dict), value, dict, where)
        for key, item in value.items():
            _require(type(key) is arguments[0], key, arguments[0], f"a key of {where}")
            check_kind(item, arguments[1], _member(where, key))
    elif kind is float:
        _require(type(value) in (int, float) and isfinite(value), value, kind, where)
    else:
        _require(value is None if kind in (None, NoneType) else type(value) is kind, value, kind, where)


def _check_union(value: Any, kinds: tuple[Any, ...], where: str) -> None:
    if value is None and NoneType in kinds:
        return
    others = [kind for kind in kinds if kind is not NoneType]
    if len(others) == 1:
        check_kind(value, others[0], where)
        return
    for kind in others:
        try:
            check_kind(value, kind, where)
        except ValueError:
            continue
        return
    _require(False, value, kinds, where)


def _check_tuple(value: Any, kinds: tuple[Any, ...], where: str) -> None:
    _require(isinstance(value, list | tuple), value, list, where)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(value) != len(kinds):
        raise ValueError(f"{where} has {len(value)} entries, not {len(kinds)}")
    for number, (item, kind) in enumerate(zip(value, kinds, strict=True)):
        check_kind(item, kind, f"{where}[{number}]")


def _check_entries(value: Any, kind: Any, where: str) -> None:
    _require(isinstance(value, dict), value, dict, where)
    missing = sorted(kind.__required_keys__ - value.keys())
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    for key, hint in _hints(kind).items():
        if key in value:
            check_kind(value[key], hint, _member(where, key))


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _require(fits: bool, value: Any, kind: Any, where: str) -> None:
    if not fits:
        shown = repr(value) if isinstance(value, str | int | float | NoneType) else NAMES.get(type(value), "of a type")
        shown = shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}..."
        raise ValueError(f"{where} is {shown}, not {_name(kind)}")


def _name(kind: Any) -> str:
    if isinstance(kind, tuple):
        return " or ".join(_name(one) for one in kind)
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    return NAMES.get(get_origin(kind) or kind, "nothing" if kind in (None, NoneType) else str(kind))


def _member(where: str, key: object) -> str:
    """Return the name of an entry; "it" as the whole is left out, and long keys are cut."""
    name = str(key)[:MAX_SHOWN]
    return name if where == "it" else f"{where}.{name}"
