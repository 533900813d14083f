"""The pretexts: METHODS maps each name to the factory that puts a method on a backbone."""

from collections.abc import Callable

from gvsl.methods.gvsl import GVSL, GVSLSettings
from gvsl.methods.method import Method

METHODS: dict[str, Callable[..., Method]] = {"gvsl": GVSL}
"""Name to factory(backbone, settings); the type of `settings` is in the factory's signature."""

__all__ = ["GVSL", "METHODS", "GVSLSettings", "Method"]
