"""Preprocessing of volumes: its specification, presets and application."""

from typing import TYPE_CHECKING, Any

from gvsl.preprocessing.parse import parse_preprocessing
from gvsl.preprocessing.presets import PRESETS
from gvsl.preprocessing.spec import Preprocessing, preprocessing_values

if TYPE_CHECKING:
    from gvsl.preprocessing.apply import preprocess
    from gvsl.preprocessing.lungs import require_lungmask

__all__ = ["PRESETS", "Preprocessing", "parse_preprocessing", "preprocess", "preprocessing_values", "require_lungmask"]


def __getattr__(name: str) -> Any:
    """Import what needs scipy at its first use, so that `gvsl prepare --help` comes at once."""
    if name == "preprocess":
        from gvsl.preprocessing.apply import preprocess

        return preprocess
    if name == "require_lungmask":
        from gvsl.preprocessing.lungs import require_lungmask

        return require_lungmask
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
