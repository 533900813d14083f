"""Predictions of a trained network for image files, written on each image's own grid."""

from gvsl.prediction.predict import PredictSettings, find_images, predict
from gvsl.prediction.volumes import classify_volume, segment_probabilities, segment_volume

__all__ = ["PredictSettings", "classify_volume", "find_images", "predict", "segment_probabilities", "segment_volume"]
