"""Preparation of a store from image files: planned, processed in parallel, published whole."""

from gvsl.preparation.prepare import prepare
from gvsl.preparation.summary import Work

__all__ = ["Work", "prepare"]
