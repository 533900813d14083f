"""Preparation of a store from image files: planned, processed in parallel, published whole."""

from gvsl.preparation.plan import PrepareSummary
from gvsl.preparation.prepare import prepare

__all__ = ["PrepareSummary", "prepare"]
