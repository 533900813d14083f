"""The files of a registered pair: images and transforms on the fixed image's grid, a record, a page."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gvsl.cases import Case
from gvsl.geometry import nonpositive_jacobian_fraction, spatial_shape, warp
from gvsl.io import Volume, resample_onto, to_canonical, write_like
from gvsl.io.itk import write_affine_transform, write_displacement_nifti, write_displacement_transform
from gvsl.metrics.dice import dice_per_structure
from gvsl.prediction.patient_field import (
    PatientField,
    jacobian_of,
    patient_affine,
    patient_field,
    warp_image,
    warp_labels,
)
from gvsl.propagation.match import Matched, margin, uncentred
from gvsl.records.volumes import Volumes, matched_volumes
from gvsl.store import class_indices

RECORD_NAME = "registered.json"
PAGE_NAME = "register.html"


class Record(TypedDict):
    """Content of registered.json."""

    format: int
    gvsl: str
    inputs: dict[str, str]
    """Absolute paths: moving, fixed, moving_labels, fixed_labels."""
    contents: NotRequired[dict[str, str]]
    """SHA-256, in hex, of what each of them holds; missing in records of an earlier gvsl."""
    weights: str
    identity: dict[str, str]
    """Hash of the weights and settings, on which the result depends."""
    ncc_before: float
    ncc_after: float
    folded: float
    jacobian: dict[str, float]
    outside: float
    """Value of the warped image where the field leaves the moving image."""
    dice_before: float | None
    dice: float | None
    structures: dict[str, list[float]]
    """DSC before and after, by label value."""
    seconds: dict[str, float]
    notes: list[str]


Render = Callable[[Record, Volumes, tuple[float, float, float]], str]
"""Returns a page of a record, the pair's volumes in the viewer's format, and their spacing in mm."""


@dataclass(frozen=True)
class Side:
    """One image of a pair."""

    case: Case
    image: Volume
    """On its own grid."""
    ready: Volume
    """Prepared like the method's training data."""
    labels: Volume | None = None
    """On the image's own grid."""


@dataclass
class Scores:
    """DSC of carried labels before and after the match."""

    values: list[int] = field(default_factory=list)
    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)

    def mean(self, when: str) -> float | None:
        """Return the mean DSC `before` or `after`; None without structures."""
        found: list[float] = getattr(self, when)
        return float(np.mean(found)) if found else None

    @property
    def structures(self) -> dict[str, list[float]]:
        """DSC before and after, by label value, as the record has it."""
        rows = zip(self.values, self.before, self.after, strict=True)
        return {str(value): [before, after] for value, before, after in rows}


@dataclass(frozen=True)
class Written:
    """What was measured while the files were written."""

    jacobian: dict[str, float]
    """The smallest and the largest determinant, `min` and `max`."""
    outside: float
    """Value of the warped image where the field leaves the moving image."""
    scores: Scores
    carried: Volume | None
    """Carried labels on the fixed image's own grid."""


def write_files(folder: Path, matched: Matched, moving: Side, fixed: Side) -> Written:
    """Write images, labels and transforms of a match into a folder."""
    found = patient_field(matched, moving.ready, fixed.ready, fixed.image)
    outside = float(moving.image.array.min())
    jacobian = jacobian_of(found)
    images: dict[str, NDArray[Any]] = {
        "warped.nii.gz": warp_image(moving.image, found, outside),
        "jacobian.nii.gz": jacobian,
    }
    scores, carried = Scores(), None
    if moving.labels is not None:
        carried = Volume(warp_labels(moving.labels, found), fixed.image.affine)
        images["labels.nii.gz"] = carried.array
        if fixed.labels is not None:
            scores = _scores(carried.array, _unmatched(matched, moving, fixed), moving.labels, fixed.labels)
    for name, array in images.items():
        write_like(folder / name, array, fixed.case.image, fixed.image.affine)
    write_displacement_nifti(folder / "field.nii.gz", found.displacement, found.affine)
    write_displacement_transform(folder / "field.h5", found.displacement, found.affine)
    write_affine_transform(folder / "affine.tfm", patient_affine(matched, moving.ready, fixed.ready))
    return Written({"min": float(jacobian.min()), "max": float(jacobian.max())}, outside, scores, carried)


def folded(matched: Matched, fixed: Side) -> float:
    """Return the fraction of the prepared fixed image's voxels at which the field folds."""
    return float(nonpositive_jacobian_fraction(uncentred(matched.dvf, _shape(fixed.ready))))


def viewed(matched: Matched, moving: Side, fixed: Side, carried: Volume | None) -> Volumes:
    """Return the prepared pair in the viewer's format, without its padding, with carried and true labels if any."""
    own, other = _shape(fixed.ready), _shape(moving.ready)
    padded = spatial_shape(matched.fixed)
    shift = [margin(one, side) - margin(two, side) for one, two, side in zip(own, other, padded, strict=True)]
    dvf = uncentred(matched.dvf, own)[0].cpu().numpy() + np.array(shift, np.float32)[:, None, None, None]
    warped = uncentred(warp(matched.moving, matched.dvf), own)[0, 0].cpu().numpy()
    named = {"carried": carried, "truth": fixed.labels}
    labels = {
        name: resample_onto(to_canonical(each), own, fixed.ready.affine, label=True)
        for name, each in named.items()
        if each is not None
    }
    return matched_volumes(moving.ready.array, fixed.ready.array, warped, dvf, labels)


@torch.no_grad()
def ncc(loss: Callable[[Tensor, Tensor, Tensor | None], Tensor], matched: Matched, fixed: Side) -> tuple[float, float]:
    """Return the mean local NCC of a pair laid centre on centre, and after the match; 0 to 1, higher is more alike.

    Both are means over all voxels of the prepared fixed image: with a mask of its own, a field could win by leaving the
    volume.
    """
    shape = _shape(fixed.ready)
    warped = warp(matched.moving, matched.dvf, padding="border")
    moving, after, own = (uncentred(image, shape) for image in (matched.moving, warped, matched.fixed))
    return 1 - float(loss(moving, own, None)), 1 - float(loss(after, own, None))


def _shape(volume: Volume) -> tuple[int, int, int]:
    first, second, third = volume.array.shape
    return first, second, third


def _unmatched(matched: Matched, moving: Side, fixed: Side) -> NDArray[Any]:
    """Return the moving labels on the fixed grid with the volumes centre on centre, as they were before the match."""
    assert moving.labels is not None
    none = torch.zeros_like(matched.dvf)
    start = Matched(matched.moving, matched.fixed, none, none)
    field: PatientField = patient_field(start, moving.ready, fixed.ready, fixed.image)
    return warp_labels(moving.labels, field)


def _scores(after: NDArray[Any], before: NDArray[Any], labels: Volume, truth: Volume) -> Scores:
    values = sorted({*np.unique(labels.array).tolist(), *np.unique(truth.array).tolist()} - {0})
    if not values:
        return Scores()
    true, *found = (torch.from_numpy(class_indices(each, values))[None, None] for each in (truth.array, before, after))
    return Scores(values, *(dice_per_structure(each, true, 1 + len(values)) for each in found))
