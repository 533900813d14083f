"""Pre-training runs by Lightning, and their evaluation on held-out volumes."""

from gvsl.training.evaluate import awaits_evaluation, evaluate_pretraining
from gvsl.training.pretrain import build_method, pretrain
from gvsl.training.pretrain_settings import OptimiserSettings, PretrainSettings, TrainerSettings

__all__ = [
    "OptimiserSettings",
    "PretrainSettings",
    "TrainerSettings",
    "awaits_evaluation",
    "build_method",
    "evaluate_pretraining",
    "pretrain",
]
