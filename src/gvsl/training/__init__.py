"""Pre-training runs by Lightning, and their evaluation on held-out volumes."""

from gvsl.settings.pretrain import OptimiserSettings, PretrainSettings, TrainerSettings
from gvsl.training.evaluate import awaits_evaluation, evaluate_pretraining
from gvsl.training.pretrain import build_method, pretrain

__all__ = [
    "OptimiserSettings",
    "PretrainSettings",
    "TrainerSettings",
    "awaits_evaluation",
    "build_method",
    "evaluate_pretraining",
    "pretrain",
]
