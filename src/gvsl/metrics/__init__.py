"""Scores of predictions, and their bootstrap intervals."""

from gvsl.metrics.bootstrap import bootstrap, mean_with_interval, steps_to_share
from gvsl.metrics.dice import dice_per_structure
from gvsl.metrics.hausdorff import hd95_per_structure

__all__ = ["bootstrap", "dice_per_structure", "hd95_per_structure", "mean_with_interval", "steps_to_share"]
