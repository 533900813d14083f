"""Transfer of weights to a task: linear probes, fine-tuning and training from scratch (Appendix E.3)."""

from gvsl.transfer.augmentation import augment
from gvsl.transfer.cases import Cases, LabelledCases, draw_boxes, draw_labelled
from gvsl.transfer.checkpoint import Checkpoint, part_folder
from gvsl.transfer.features import FrozenFeatures, PooledFeatures, Represent
from gvsl.transfer.fit import fit, fit_adam, fit_lbfgs
from gvsl.transfer.monitor import DivergedError, FitResult, TrainingMonitor
from gvsl.transfer.networks import AdaptedNetwork, ClassificationNetwork, SegmentationNetwork
from gvsl.transfer.run import run_task, run_transfer
from gvsl.transfer.segmentation import segmentation_loss
from gvsl.transfer.task import Outcome, Task
from gvsl.transfer.transfer_settings import ClusterSettings, TransferSettings
from gvsl.transfer.weights import (
    CLASSIFIER_CONFIG,
    Classifier,
    Segmenter,
    fingerprint,
    load_adapted,
    load_classifier,
    load_segmenter,
    save_adapted,
    segmenter_config,
)

__all__ = [
    "CLASSIFIER_CONFIG",
    "AdaptedNetwork",
    "Cases",
    "Checkpoint",
    "ClassificationNetwork",
    "Classifier",
    "ClusterSettings",
    "DivergedError",
    "FitResult",
    "FrozenFeatures",
    "LabelledCases",
    "Outcome",
    "PooledFeatures",
    "Represent",
    "SegmentationNetwork",
    "Segmenter",
    "Task",
    "TrainingMonitor",
    "TransferSettings",
    "augment",
    "draw_boxes",
    "draw_labelled",
    "fingerprint",
    "fit",
    "fit_adam",
    "fit_lbfgs",
    "load_adapted",
    "load_classifier",
    "load_segmenter",
    "part_folder",
    "run_task",
    "run_transfer",
    "save_adapted",
    "segmentation_loss",
    "segmenter_config",
]
