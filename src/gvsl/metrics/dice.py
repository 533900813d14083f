"""The Dice similarity coefficient (DSC) of one case, by MONAI."""

from torch import Tensor

from gvsl.cases import IGNORED


def dice_per_structure(prediction: Tensor, truth: Tensor, classes: int) -> list[float]:
    """Return the DSC of each structure of one case, 0 to 1, without the background.

    A structure absent in both truth and prediction scores 1, one absent in truth alone 0 (MONAI's
    `ignore_empty=False`), so that every case has a score for every structure.

    Args:
        prediction: class indices, (1, 1, D, H, W); voxels that are IGNORED here or in the truth don't count.
        truth: class indices, (1, 1, D, H, W).
        classes: their number, background included; at least 2.
    """
    from monai.metrics import compute_dice  # takes seconds to import, and most commands score nothing

    kept = (truth[0, 0] != IGNORED) & (prediction[0, 0] != IGNORED)
    if not kept.all():
        prediction, truth = prediction[:, :, kept], truth[:, :, kept]
    scores = compute_dice(prediction, truth, include_background=False, ignore_empty=False, num_classes=classes)
    return [float(score) for score in scores[0]]
