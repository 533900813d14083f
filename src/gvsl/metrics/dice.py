"""The Dice similarity coefficient (DSC) of one case, by MONAI."""

from monai.metrics import compute_dice
from torch import Tensor


def dice_per_structure(prediction: Tensor, truth: Tensor, classes: int) -> list[float]:
    """The DSC of each structure of one case, 0 to 1, the background left out.

    A structure absent in both truth and prediction was rightly left out and counts 1; one absent in the truth
    alone counts 0 (MONAI's `ignore_empty=False`). So every case has a score for every structure.

    Args:
        prediction: class indices, (1, 1, D, H, W).
        truth: class indices, (1, 1, D, H, W).
        classes: how many there are, background included; 2 or more.
    """
    scores = compute_dice(prediction, truth, include_background=False, ignore_empty=False, num_classes=classes)
    return [float(score) for score in scores[0]]
