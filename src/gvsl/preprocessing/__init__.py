"""The preprocessing of a volume: its specification, its presets, and its application."""

from gvsl.preprocessing.apply import preprocess
from gvsl.preprocessing.lungmask import require_lungmask
from gvsl.preprocessing.presets import PRESETS
from gvsl.preprocessing.spec import Preprocessing, parse_preprocessing, preprocessing_values

__all__ = [
    "PRESETS",
    "Preprocessing",
    "parse_preprocessing",
    "preprocess",
    "preprocessing_values",
    "require_lungmask",
]
