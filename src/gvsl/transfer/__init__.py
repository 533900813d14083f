"""Transfer of weights to a task: linear probes, fine-tuning and training from scratch (Appendix E.3)."""

from gvsl.settings.transfer import ClusterSettings, TransferSettings
from gvsl.transfer.checkpoint import part_folder
from gvsl.transfer.networks import AdaptedNetwork, ClassificationNetwork, SegmentationNetwork
from gvsl.transfer.run import run_task
from gvsl.transfer.task import Outcome, Task
from gvsl.transfer.weights import Classifier, Segmenter, load_adapted, load_classifier, load_segmenter, save_adapted

__all__ = [
    "AdaptedNetwork",
    "ClassificationNetwork",
    "Classifier",
    "ClusterSettings",
    "Outcome",
    "SegmentationNetwork",
    "Segmenter",
    "Task",
    "TransferSettings",
    "load_adapted",
    "load_classifier",
    "load_segmenter",
    "part_folder",
    "run_task",
    "save_adapted",
]
