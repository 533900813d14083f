"""The public functions and modules of the building blocks have an example, which pytest runs as a doctest."""

from inspect import isfunction

import pytest
from torch import nn

import gvsl
from gvsl import geometry, heads, losses
from gvsl.methods import METHODS

PUBLIC = {name: getattr(room, name) for room in (geometry, heads, losses) for name in room.__all__}
EXPLAINED = [gvsl.load_backbone, *METHODS.values(), *PUBLIC.values()]


@pytest.mark.parametrize(
    "item",
    [item for item in EXPLAINED if isfunction(item) or (isinstance(item, type) and issubclass(item, nn.Module))],
    ids=lambda item: item.__name__,
)
def test_it_has_an_example(item: object) -> None:
    assert "\n    >>> " in (item.__doc__ or "")
