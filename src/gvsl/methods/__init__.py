"""The pretexts: METHODS maps each name to the factory that puts a method on a backbone."""

from collections.abc import Callable

from torch import nn

from gvsl.methods.gvsl import GVSL, GVSLSettings

METHODS: dict[str, Callable[..., nn.Module]] = {"gvsl": GVSL}
"""Name to factory(backbone, settings); the type of `settings` is in the factory's signature."""

__all__ = ["GVSL", "METHODS", "GVSLSettings"]
