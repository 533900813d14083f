"""Predictions of whole volumes from overlapping windows."""

from gvsl.inferers.sliding_window import predict_classes
from gvsl.inferers.windows import random_box, window_size, windows

__all__ = ["predict_classes", "random_box", "window_size", "windows"]
