"""What a run is worth, case by case."""

from gvsl.evaluation.classification import classify
from gvsl.evaluation.dice import dice_per_structure
from gvsl.evaluation.matching import awaits_evaluation, evaluate_pretraining
from gvsl.evaluation.predict import PredictSettings, find_images, predict
from gvsl.evaluation.prediction import predict_classes
from gvsl.evaluation.segmentation import transfer
from gvsl.evaluation.tasks import run_task

__all__ = [
    "PredictSettings",
    "awaits_evaluation",
    "classify",
    "dice_per_structure",
    "evaluate_pretraining",
    "find_images",
    "predict",
    "predict_classes",
    "run_task",
    "transfer",
]
