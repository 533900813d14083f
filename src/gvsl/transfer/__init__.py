"""From weights to a task: a head, the paper's linear evaluation, fine-tuning and training from scratch."""

from gvsl.transfer.adapted import AdaptedNetwork
from gvsl.transfer.augmentation import augment
from gvsl.transfer.cases import LabelledCases, draw_boxes, draw_labelled
from gvsl.transfer.checkpoint import Checkpoint, part_folder
from gvsl.transfer.classification import classify
from gvsl.transfer.classifier import ClassificationNetwork
from gvsl.transfer.features import FrozenFeatures, Represent
from gvsl.transfer.fit import DivergedError, FitResult, Watch, fit, optimise, segmentation_loss
from gvsl.transfer.lbfgs import converge
from gvsl.transfer.networks import SegmentationNetwork
from gvsl.transfer.segmentation import transfer
from gvsl.transfer.tasks import run_task
from gvsl.transfer.transfer_settings import ClusterSettings, TransferSettings
from gvsl.transfer.weights import (
    Classifier,
    Segmenter,
    fingerprint,
    load_adapted,
    load_classifier,
    load_segmenter,
    save_classifier,
    save_segmenter,
)

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
    "classify",
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
    "run_task",
    "save_classifier",
    "save_segmenter",
    "segmentation_loss",
    "transfer",
]
