"""What a run is worth, case by case."""

from gvsl.evaluation.dice import dice_per_structure
from gvsl.evaluation.matching import awaits_evaluation, evaluate_pretraining
from gvsl.evaluation.prediction import predict_classes
from gvsl.evaluation.segmentation import transfer

__all__ = ["awaits_evaluation", "dice_per_structure", "evaluate_pretraining", "predict_classes", "transfer"]
