"""Parsing of a preprocessing spec from the JSON of a manifest or a config, which may be a stranger's."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Literal, TypedDict

from gvsl.errors import UserError
from gvsl.preprocessing.presets import PRESETS
from gvsl.preprocessing.spec import LATER, Channel, Preprocessing
from gvsl.readers import check_kind


class ChannelValues(TypedDict):
    """A channel in JSON."""

    name: str
    number: int
    count: int
    intensity: Literal["percentiles", "window"]
    lower: float
    upper: float


def parse_preprocessing(values: Mapping[str, Any]) -> Preprocessing:
    """Parse the output of `preprocessing_values`, also of an earlier gvsl; a preset that gvsl doesn't have is left out.

    Raises:
        UserError: a field is missing or unknown, or a value is of the wrong type or out of its range.
    """
    expected = {item.name: type(item.default) for item in fields(Preprocessing)}
    values = {**LATER, **values}
    if values["channels"] != ():
        return replace(parse_preprocessing({**values, "channels": ()}), channels=_parse_channels(values["channels"]))
    edges = values.get("spacing")
    if isinstance(edges, list | tuple) and len(edges) == 3 and all(type(edge) in (int, float) for edge in edges):
        return replace(parse_preprocessing({**values, "spacing": 1.0}), spacing=(edges[0], edges[1], edges[2]))
    if values.keys() != expected.keys():
        odd = ", ".join(sorted(values.keys() ^ expected.keys()))
        raise UserError(f"these preprocessing settings lack or add {odd}; they were written by another version of gvsl")
    for name, kind in expected.items():
        if isinstance(values[name], bool) or not isinstance(values[name], (kind, int) if kind is float else kind):
            raise UserError(f"preprocessing {name} is {values[name]!r}, not {kind.__name__}")
    known = values["preset"] in PRESETS  # any other could be a text of whoever wrote the file
    return Preprocessing(**{**values, "preset": values["preset"] if known else ""})


def _parse_channels(values: Any) -> tuple[Channel, ...]:
    try:
        check_kind(values, list[ChannelValues], "preprocessing channels")
        return tuple(Channel(**each) for each in values)
    except (ValueError, TypeError) as error:
        raise UserError(f"{error}; they were written by another version of gvsl") from None
