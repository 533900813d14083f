"""From weights to a task: a head, the paper's linear evaluation, fine-tuning and training from scratch."""

from gvsl.transfer.cases import LabelledCases, draw_boxes, draw_labelled
from gvsl.transfer.converge import converge
from gvsl.transfer.features import FrozenFeatures, Represent
from gvsl.transfer.fit import FitResult, fit
from gvsl.transfer.network import SegmentationNetwork
from gvsl.transfer.saved import Segmenter, load_segmenter, save_segmenter
from gvsl.transfer.settings import TransferSettings
from gvsl.transfer.windows import random_box, window_size, windows

__all__ = [
    "FitResult",
    "FrozenFeatures",
    "LabelledCases",
    "Represent",
    "SegmentationNetwork",
    "Segmenter",
    "TransferSettings",
    "converge",
    "draw_boxes",
    "draw_labelled",
    "fit",
    "load_segmenter",
    "random_box",
    "save_segmenter",
    "window_size",
    "windows",
]
