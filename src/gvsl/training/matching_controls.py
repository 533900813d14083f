"""Controls of matching: what fields that know nothing of a pair, and blur alone, would score on it.

A local correlation rises when an image is blurred, and interpolation blurs, so that a field may seem to match although
it does not: a shift by a quarter of a voxel is enough. All images are therefore smoothed alike after warping, and each
pair's own field is compared with fields of other pairs and with an image that is blurred but not moved.
"""

from collections.abc import Sequence
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from gvsl.geometry import gaussian_smooth, warp
from gvsl.training.matched_pairs import MatchedPair, NCCLoss

SIGMA = 1.0
"""Standard deviation of the Gaussian over all compared images, in voxels."""
MAX_DONORS = 3
"""Number of other pairs whose fields each pair is given."""


@torch.no_grad()
def control_metrics(pairs: Sequence[MatchedPair], ncc: NCCLoss) -> list[dict[str, float]]:
    """Return for each pair the metrics of its own fields, of other pairs' fields, and of blur alone.

    Args:
        pairs: at least two, as of `match_pairs`.
        ncc: the method's loss.

    Returns:
        NCC losses of smoothed images, lower is more alike: `smooth_ncc`, `smooth_ncc_affine` and `smooth_ncc_identity`
        (own field, its affine part, no warp), `smooth_ncc_swapped` and `smooth_ncc_affine_swapped` (the same of other
        pairs, averaged), `smooth_ncc_mean_field` (the mean field of all other pairs), `smooth_ncc_blurred` and
        `smooth_ncc_affine_blurred` (`blur_without_moving` by the own field and its affine part). With labels,
        `dice_swapped`, `dice_affine_swapped` and `dice_mean_field`. Also `affine_difference`, the mean length in voxels
        of the difference to other pairs' affine parts.
    """
    total = sum(pair.matching.dvf for pair in pairs)
    assert isinstance(total, Tensor)
    return [_metrics_of(index, pairs, total, ncc) for index in range(len(pairs))]


def donors(index: int, pairs: Sequence[frozenset[str]]) -> list[int]:
    """Return the pairs whose fields a pair is given: at most three, spread evenly over the others.

    Pairs that share a subject with it are left out if there are others: their fields are correlated with its own.

    Args:
        index: of the pair.
        pairs: the subjects of each.

    >>> chain = [frozenset((number, (number + 1) % 10)) for number in range(10)]
    >>> donors(0, chain), donors(9, chain)
    ([2, 5, 8], [1, 4, 7])
    """
    others = [(index + shift) % len(pairs) for shift in range(1, len(pairs))]
    found = [other for other in others if not pairs[index] & pairs[other]] or others
    places = np.unique(np.linspace(0, len(found) - 1, MAX_DONORS).round().astype(int))
    return [found[place] for place in places]


def blur_without_moving(image: Tensor, dvf: Tensor) -> Tensor:
    """Blur a volume at least as much as interpolation by a field does, and move nothing.

    It is the mean of the image sampled at +f and at -f, with f the field's offset from the nearest voxel, from -1/2 to
    1/2: along an axis, interpolation by f has the variance |f| (1 - |f|), and the mean of both |f|.

    Args:
        image: (B, C, D, H, W).
        dvf: (B, 3, D, H, W), in voxels.

    Returns:
        (B, C, D, H, W).
    """
    offset = dvf - dvf.round()
    return (warp(image, offset, padding="border") + warp(image, -offset, padding="border")) / 2


def _metrics_of(index: int, pairs: Sequence[MatchedPair], total: Tensor, ncc: NCCLoss) -> dict[str, float]:
    pair, own = pairs[index], pairs[index].matching
    others = [pairs[donor].matching for donor in donors(index, [each.shows for each in pairs])]
    mean_field = (total - own.dvf) / (len(pairs) - 1)
    fixed = gaussian_smooth(pair.fixed, SIGMA)

    def loss_of(image: Tensor) -> float:
        # Every voxel counts in every image: with a mask of its own, a field could win by leaving the volume.
        return float(ncc(gaussian_smooth(image, SIGMA), fixed, None))

    def loss(dvf: Tensor) -> float:
        return loss_of(warp(pair.moving, dvf, padding="border"))

    metrics = {
        "smooth_ncc": loss(own.dvf),
        "smooth_ncc_affine": loss(own.affine),
        "smooth_ncc_identity": loss_of(pair.moving),
        "smooth_ncc_swapped": fmean(loss(other.dvf) for other in others),
        "smooth_ncc_affine_swapped": fmean(loss(other.affine) for other in others),
        "smooth_ncc_mean_field": loss(mean_field),
        "smooth_ncc_blurred": loss_of(blur_without_moving(pair.moving, own.dvf)),
        "smooth_ncc_affine_blurred": loss_of(blur_without_moving(pair.moving, own.affine)),
        "affine_difference": fmean(float((other.affine - own.affine).norm(dim=1).mean()) for other in others),
    }
    if pair.moving_label is not None:
        metrics |= {
            "dice_swapped": fmean(pair.dice(other.dvf) for other in others),
            "dice_affine_swapped": fmean(pair.dice(other.affine) for other in others),
            "dice_mean_field": pair.dice(mean_field),
        }
    return metrics
