"""Volumes prepared once: one orientation, one spacing, one intensity range, chunked and compressed."""

from gvsl.store.audit import duplicates, refuse_seen
from gvsl.store.describe import describe, told_lungs
from gvsl.store.lungmask import require_lungmask
from gvsl.store.prepare import prepare
from gvsl.store.preprocess import preprocess
from gvsl.store.preprocessing import Preprocessing, parse_preprocessing, preprocessing_values
from gvsl.store.presets import PRESETS
from gvsl.store.store import Store, StoredCase
from gvsl.store.work import Work

__all__ = [
    "PRESETS",
    "Preprocessing",
    "Store",
    "StoredCase",
    "Work",
    "describe",
    "duplicates",
    "parse_preprocessing",
    "prepare",
    "preprocess",
    "preprocessing_values",
    "refuse_seen",
    "require_lungmask",
    "told_lungs",
]
