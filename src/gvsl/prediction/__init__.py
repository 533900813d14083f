"""Predictions for image files by a trained network, written in each image's own grid."""

from gvsl.prediction.predict import PredictSettings, find_images, predict

__all__ = ["PredictSettings", "find_images", "predict"]
