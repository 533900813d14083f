"""Load the method of a finished pre-training with its heads."""

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import torch

from gvsl.backbones.tensor_file import read_tensors, tensor_shapes
from gvsl.backbones.weights import HEADS_NAME, compare_keys, find_weights, load_backbone
from gvsl.errors import UserError
from gvsl.methods import METHODS, Method
from gvsl.readers import check_kind
from gvsl.records import read_record
from gvsl.records.comparability import ADDED_LATER
from gvsl.settings.methods import PRETEXTS
from gvsl.text import one_line


def load_method(run: Path) -> Method:
    """Load a run's method with backbone and heads, in eval mode, on the CPU; the backbone has `.preprocessing`.

    Raises:
        UserError: `run` is not the folder of a finished pre-training, or its files don't fit each other.
    """
    record = read_record(run)
    backbone = load_backbone(run)
    factory = METHODS.get(backbone.method)
    if factory is None:
        raise UserError(f"{run} was trained by {backbone.method!r}, which this gvsl does not have")
    try:
        kind = type(PRETEXTS[backbone.method].settings)
        settings = _from_values(kind, _added_later(kind) | record.config["pretext"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run} has settings that this gvsl does not know ({error})") from None
    path = find_weights(run) / HEADS_NAME
    try:
        with torch.device("meta"):  # no size in the settings costs memory before the file is known to have it
            expected = factory(backbone, settings).state_dict()
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise UserError(f"{run} has settings with which its method can't be built ({one_line(str(error))})") from None
    heads = {name: value for name, value in expected.items() if not name.startswith("backbone.")}
    report = compare_keys(heads, tensor_shapes(path))
    if not report.complete:
        raise UserError(f"{run} has heads that do not fit its settings ({report}): copy the run again")
    method = factory(backbone, settings)
    method.load_state_dict(read_tensors(path), strict=False)
    return method.eval()


def _added_later(kind: type[Any]) -> dict[str, Any]:
    """Return what held before settings of the method existed, by name, for records that lack them."""
    names = {f"pretext.{item.name}": item.name for item in fields(kind)}
    return {names[name]: value for name, value in ADDED_LATER.items() if name in names}


def _from_values(kind: type[Any], values: dict[str, Any]) -> Any:
    """Return the dataclass whose `dataclasses.asdict` is `values`.

    A setting that is missing has its default.
    """
    hints = get_type_hints(kind)
    check_kind(values, dict[str, Any], "a group of settings")
    unknown = values.keys() - {item.name for item in fields(kind)}
    if unknown:
        raise ValueError(f"it sets {', '.join(sorted(unknown))}")
    for name, value in values.items():
        if not is_dataclass(hints[name]):
            check_kind(value, hints[name], name)
    return kind(**{name: _from_value(hints[name], value) for name, value in values.items()})


def _from_value(hint: Any, value: Any) -> Any:
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return _from_values(hint, value)
    return tuple(value) if isinstance(value, list) else value  # JSON has no tuples
