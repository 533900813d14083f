"""Pre-training runs by Lightning, and what they leave behind."""

from gvsl.training.pretrain import build_method, pretrain
from gvsl.training.settings import OptimiserSettings, PretrainSettings, TrainerSettings

__all__ = ["OptimiserSettings", "PretrainSettings", "TrainerSettings", "build_method", "pretrain"]
