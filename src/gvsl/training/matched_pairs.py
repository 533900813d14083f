"""Pairs of held-out volumes with the fields that a method gives them: their metrics and pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gvsl.data import centre_crop, foreground_centre, read_crop, subjects_to_pair
from gvsl.data.crop import Shape
from gvsl.geometry import (
    affine_of,
    decompose_affine,
    identity_grid,
    nonpositive_jacobian_fraction,
    spatial_shape,
    warp,
)
from gvsl.heads import Matching
from gvsl.metrics.dice import dice_per_structure
from gvsl.records.volumes import Volumes, matched_volumes
from gvsl.store import Store, class_indices

Match = Callable[[Tensor, Tensor], Matching]
"""Returns the fields that align a moving volume with a fixed one."""
NCCLoss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Returns the loss of a moving volume, a fixed one, and the field that warps the moving one; None for no warp."""


@dataclass(frozen=True)
class MatchedPair:
    """A moving and a fixed volume of different subjects, and their fields; a batch of one."""

    moving_id: str
    fixed_id: str
    moving: Tensor
    """(1, C, D, H, W), in [0, 1]."""
    fixed: Tensor
    """(1, C, D, H, W), in [0, 1]."""
    matching: Matching
    moving_label: Tensor | None = None
    """(1, 1, D, H, W), class indices; None if either volume has no label map."""
    fixed_label: Tensor | None = None
    """(1, 1, D, H, W), class indices; None if either volume has no label map."""
    classes: int = 0
    """Number of classes, background included."""
    subjects: frozenset[str] = frozenset()
    """Of both volumes; empty if each volume is a subject of its own."""

    @property
    def shows(self) -> frozenset[str]:
        """Whom the pair shows."""
        return self.subjects or frozenset((self.moving_id, self.fixed_id))

    def dice(self, dvf: Tensor | None) -> float:
        """Return the mean DSC of the structures after a field; the pair must have labels.

        Labels are warped by nearest-neighbour interpolation.

        Args:
            dvf: (1, 3, D, H, W), in voxels; None for no warp.
        """
        assert self.moving_label is not None
        assert self.fixed_label is not None
        label = self.moving_label
        if dvf is not None:
            label = warp(label.float(), dvf, mode="nearest").to(label.dtype)
        return float(np.mean(dice_per_structure(label, self.fixed_label, self.classes)))


@torch.no_grad()
def match_pairs(match: Match, store: Store, ids: list[str], crop: Shape) -> list[MatchedPair]:
    """Match each volume once as the fixed one, with the next one of another subject as the moving one.

    The fields stay in memory, for the controls: 36 bytes per voxel and pair.

    Args:
        match: of a method.
        store: of the volumes.
        ids: of at least two volumes.
        crop: of each volume.
    """
    images = {case: read_crop(store, case, crop)[None] for case in ids}
    labels = {case: label_crop(store, case, crop) for case in ids if store.has_label(case)}
    pairs = []
    subjects = dict(zip(ids, subjects_to_pair(store, ids), strict=True))
    for moving, fixed in across_subjects(ids, list(subjects.values())):
        labelled = moving in labels and fixed in labels
        pairs.append(
            MatchedPair(
                moving_id=moving,
                fixed_id=fixed,
                moving=images[moving],
                fixed=images[fixed],
                matching=match(images[moving], images[fixed]),
                moving_label=labels[moving] if labelled else None,
                fixed_label=labels[fixed] if labelled else None,
                classes=1 + len(store.label_names),
                subjects=frozenset((subjects[moving], subjects[fixed])),
            )
        )
    return pairs


def across_subjects(ids: Sequence[str], subjects: Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs of different subjects in which each volume is moving once and fixed once.

    If a subject has more than half of the volumes, some are in no pair.

    >>> across_subjects(["a1", "a2", "b", "c"], ["a", "a", "b", "c"])
    [('b', 'a1'), ('c', 'a2'), ('a1', 'b'), ('a2', 'c')]
    """
    groups: dict[str, list[str]] = {}
    for case, subject in zip(ids, subjects, strict=True):
        groups.setdefault(subject, []).append(case)
    ordered = [(subject, case) for subject, cases in groups.items() for case in cases]
    shift = max(map(len, groups.values()))  # beyond all of a subject's own
    paired = zip([*ordered[shift:], *ordered[:shift]], ordered, strict=True)
    return [(moving, fixed) for (one, moving), (other, fixed) in paired if one != other]


@torch.no_grad()
def pair_metrics(pair: MatchedPair, ncc: NCCLoss) -> dict[str, float]:
    """Return the metrics of a pair's own fields.

    Returns:
        `ncc`, `ncc_affine` and `ncc_identity`, the losses after the field, after its affine part and without warping;
        `folded`, the fraction of voxels with a non-positive Jacobian; `affine_displacement`, the mean length of the
        affine part in voxels; `affine_rotation` in degrees, `affine_translation` in voxels, `affine_scale` as the
        difference of the factors from 1, and `affine_shear`, all absolute and averaged over the values of Eq. 11,
        unless the map collapses an axis; and with labels `dice_before`, `dice_affine` and `dice_after`.
    """
    dvf, affine, _ = pair.matching
    fields = {"": dvf, "_affine": affine, "_identity": None}
    metrics = {f"ncc{name}": float(ncc(pair.moving, pair.fixed, field)) for name, field in fields.items()}
    metrics["folded"] = float(nonpositive_jacobian_fraction(dvf))
    metrics["affine_displacement"] = float(affine.norm(dim=1).mean())
    metrics |= _affine_values(affine)
    if pair.moving_label is not None:
        metrics |= {"dice_before": pair.dice(None), "dice_affine": pair.dice(affine), "dice_after": pair.dice(dvf)}
    return metrics


@torch.no_grad()
def pair_picture(pair: MatchedPair) -> dict[str, Any]:
    """Return planes of a pair along each axis, through the labels' centre of mass or else the volume's centre."""
    dvf, crop = pair.matching.dvf, spatial_shape(pair.fixed)
    arrays = {
        "moving": pair.moving,
        "fixed": pair.fixed,
        "affine": warp(pair.moving, pair.matching.affine),
        "warped": warp(pair.moving, dvf),
    }
    if pair.moving_label is not None and pair.fixed_label is not None:
        warped = warp(pair.moving_label.float(), dvf, mode="nearest").to(pair.moving_label.dtype)
        shown = {"moving_label": pair.moving_label, "fixed_label": pair.fixed_label, "warped_label": warped}
        arrays |= {name: label.clamp(min=0) for name, label in shown.items()}  # ignored voxels as background
    picture: dict[str, Any] = {}
    positions = identity_grid(crop, dtype=torch.float32, device="cpu")[0] + dvf[0]
    for axis, index in enumerate(_centre(pair.fixed_label, crop)):
        picture |= {f"{name}_{axis}": plane(value[0, 0], axis, index) for name, value in arrays.items()}
        in_plane = [other for other in range(3) if other != axis]
        picture[f"grid_{axis}"] = np.stack([plane(positions[other], axis, index) for other in in_plane])
    return picture


@torch.no_grad()
def pair_volumes(pair: MatchedPair) -> Volumes:
    """Return a pair's volumes in the viewer's format."""
    dvf = pair.matching.dvf
    moving, fixed, warped = (each[0, 0].numpy() for each in (pair.moving, pair.fixed, warp(pair.moving, dvf)))
    return matched_volumes(moving, fixed, warped, dvf[0].numpy())


def plane(volume: Tensor, axis: int, index: int) -> np.ndarray[Any, Any]:
    """Return one plane of a volume, (D, H, W), perpendicular to an axis."""
    return volume.select(axis, index).numpy()


def label_crop(store: Store, case: str, crop: Shape) -> Tensor:
    """Return a case's structures as class indices, 0 the background, with IGNORED voxels: (1, 1, D, H, W)."""
    known = store.cases[case]
    voxels = centre_crop(lambda box: store.label(case, box), known.shape, crop, foreground_centre(known))
    return torch.from_numpy(class_indices(voxels, sorted(store.label_names), store.ignored))[None, None]


def _affine_values(affine: Tensor) -> dict[str, float]:
    """Return the mean absolute values of an affine map, given as a field; none of a map that collapses an axis."""
    try:
        values = decompose_affine(affine_of(affine.double()))
    except ValueError:  # such a map has none
        return {}
    parts = values._replace(rotation=values.rotation.rad2deg(), scale=values.scale - 1)
    return {f"affine_{name}": float(part.abs().mean()) for name, part in parts._asdict().items()}


def _centre(label: Tensor | None, crop: Shape) -> Shape:
    """Return the labels' centre of mass, or the volume's centre, in voxels."""
    if label is None or not bool((label > 0).any()):
        return crop[0] // 2, crop[1] // 2, crop[2] // 2
    middle = (label[0, 0] > 0).nonzero().float().mean(dim=0).round().long().tolist()
    return middle[0], middle[1], middle[2]
