"""From weights to a task: a head, the paper's linear evaluation, fine-tuning and training from scratch."""

from gvsl.transfer.adapted import AdaptedNetwork
from gvsl.transfer.augmentation import augment
from gvsl.transfer.cases import LabelledCases, draw_boxes, draw_labelled
from gvsl.transfer.checkpoint import Checkpoint, part_folder
from gvsl.transfer.classifier import ClassificationNetwork
from gvsl.transfer.converge import converge
from gvsl.transfer.features import FrozenFeatures, Represent
from gvsl.transfer.fit import DivergedError, FitResult, Watch, fit, optimise, segmentation_loss
from gvsl.transfer.network import SegmentationNetwork
from gvsl.transfer.saved import (
    Classifier,
    Segmenter,
    fingerprint,
    load_adapted,
    load_classifier,
    load_segmenter,
    save_classifier,
    save_segmenter,
)
from gvsl.transfer.settings import ClusterSettings, TransferSettings
from gvsl.transfer.windows import random_box, window_size, windows

__all__ = [
    "AdaptedNetwork",
    "Checkpoint",
    "ClassificationNetwork",
    "Classifier",
    "ClusterSettings",
    "DivergedError",
    "FitResult",
    "FrozenFeatures",
    "LabelledCases",
    "Represent",
    "SegmentationNetwork",
    "Segmenter",
    "TransferSettings",
    "Watch",
    "augment",
    "converge",
    "draw_boxes",
    "draw_labelled",
    "fingerprint",
    "fit",
    "load_adapted",
    "load_classifier",
    "load_segmenter",
    "optimise",
    "part_folder",
    "random_box",
    "save_classifier",
    "save_segmenter",
    "segmentation_loss",
    "window_size",
    "windows",
]
