"""Names of the metrics of held-out pairs in a record: `cases` has them pair by pair, `metrics` their means."""

from collections.abc import Iterable, Mapping
from typing import Any

from gvsl.records.metrics import LoggedMetric

CONTROLS = (
    *("smooth_ncc_swapped", "smooth_ncc_mean_field", "smooth_ncc_blurred"),
    *("smooth_ncc_affine_swapped", "smooth_ncc_affine_blurred"),
)
"""NCC losses of fields of other pairs and of blur alone, with which the pair's own are compared."""

FIELD_METRICS = (
    LoggedMetric("ncc", "NCC loss", "lower"),
    LoggedMetric("ncc_affine", "NCC loss of the affine part", "lower"),
    LoggedMetric("ncc_identity", "NCC loss without warping"),
    LoggedMetric("folded", "Fraction of voxels with a non-positive Jacobian", "lower"),
)
"""Metrics of a pair's field that training logs too."""
MATCHING_METRICS = (
    *FIELD_METRICS,
    LoggedMetric("dice_before", "Label DSC without warping"),
    LoggedMetric("dice_affine", "Label DSC of the affine part", "higher"),
    LoggedMetric("dice_after", "Label DSC", "higher"),
    LoggedMetric("dice_swapped", "Label DSC of another pair's field"),
    LoggedMetric("dice_affine_swapped", "Label DSC of another pair's affine part"),
    LoggedMetric("dice_mean_field", "Label DSC of the mean field"),
    LoggedMetric("smooth_ncc", "NCC loss of smoothed images", "lower"),
    LoggedMetric("smooth_ncc_affine", "NCC loss of smoothed images, affine part", "lower"),
    LoggedMetric("smooth_ncc_identity", "NCC loss of smoothed images, no warp"),
    LoggedMetric("smooth_ncc_swapped", "NCC loss of smoothed images, another pair's field"),
    LoggedMetric("smooth_ncc_affine_swapped", "NCC loss of smoothed images, another pair's affine part"),
    LoggedMetric("smooth_ncc_mean_field", "NCC loss of smoothed images, mean field"),
    LoggedMetric("smooth_ncc_blurred", "NCC loss of smoothed images, blurred and not moved"),
    LoggedMetric("smooth_ncc_affine_blurred", "NCC loss of smoothed images, blurred as by the affine part, not moved"),
    LoggedMetric("affine_displacement", "Displacement by the affine part (voxels)"),
    LoggedMetric("affine_rotation", "Rotation of the affine part (degrees about an axis)"),
    LoggedMetric("affine_translation", "Translation of the affine part (voxels along an axis)"),
    LoggedMetric("affine_scale", "Scaling of the affine part (difference of a factor from 1)"),
    LoggedMetric("affine_shear", "Shear of the affine part"),
    LoggedMetric("affine_difference", "Difference between the affine parts of two pairs (voxels)", "higher"),
)
"""Every metric of a held-out pair."""


def has_controls(cases: Iterable[Mapping[str, Any]]) -> bool:
    """Return True if no pair lacks the controls of matching; records before 2026-11-27 do.

    >>> has_controls([{"id": "a->b", "ncc": 0.8}]), has_controls([])
    (False, True)
    """
    return all(name in row for row in cases if "ncc" in row for name in CONTROLS)
