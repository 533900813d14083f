"""The 95th percentile of the Hausdorff distance (HD95) of one case, by MONAI."""

import warnings
from collections.abc import Sequence
from math import hypot

from torch import Tensor

from gvsl.cases import IGNORED


def hd95_per_structure(prediction: Tensor, truth: Tensor, classes: int, spacing: Sequence[float]) -> list[float]:
    """Return the HD95 of each structure of one case in millimetres, without the background.

    It is the larger of the two directions' 95th percentiles of the distances between surface voxels. A structure
    absent in both truth and prediction scores 0; one absent in one of them scores the diagonal of the volume, the
    upper bound of any distance. So every case has a value for every structure. Where the truth is IGNORED, both are
    background, so that a prediction which runs into such voxels ends at their border.

    Args:
        prediction: class indices, (1, 1, D, H, W).
        truth: class indices, (1, 1, D, H, W).
        classes: their number, background included; at least 2.
        spacing: of the voxels along each axis, in mm.
    """
    from monai.metrics import compute_hausdorff_distance  # takes seconds to import, and most commands score nothing

    diagonal = hypot(*(side * step for side, step in zip(truth.shape[2:], spacing, strict=True)))
    distances = []
    for structure in range(1, classes):
        found, wanted = (prediction == structure) & (truth != IGNORED), truth == structure
        present = bool(found.any()), bool(wanted.any())
        if not all(present):
            distances.append(diagonal if any(present) else 0.0)
            continue
        with warnings.catch_warnings():  # MONAI 1.6 calls a deprecated function of its own
            warnings.simplefilter("ignore", FutureWarning)
            distance = compute_hausdorff_distance(
                found.float(), wanted.float(), include_background=True, percentile=95, spacing=list(spacing)
            )
        distances.append(float(distance[0, 0]))
    return distances
