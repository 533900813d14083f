"""Preprocessing of volumes: its specification, presets and application."""

from gvsl.preprocessing.apply import preprocess
from gvsl.preprocessing.lungs import require_lungmask
from gvsl.preprocessing.presets import PRESETS
from gvsl.preprocessing.spec import Preprocessing, parse_preprocessing, preprocessing_values

__all__ = ["PRESETS", "Preprocessing", "parse_preprocessing", "preprocess", "preprocessing_values", "require_lungmask"]
