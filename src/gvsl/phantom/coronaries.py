"""The phantom's coronary arteries: a contrast-filled tree on the heart of `gvsl.phantom.heart`, on CT.

The main arteries run in the grooves between the chambers, from two ostia in the aortic root. Dominance, number of
branches and width differ between subjects.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline
from scipy.spatial import cKDTree

from gvsl.phantom.heart import (
    ASCENDING,
    PULMONARY,
    Array,
    Layer,
    Vector,
    chambers,
    heart_point,
    inside,
    layers,
    tube,
    union,
)

CORONARY_LABELS: dict[int, str] = {1: "coronary artery"}

LEFT_DOMINANT = 0.15
"""Fraction of subjects whose inferior wall is supplied by the circumflex artery, as in humans."""
SECOND_BRANCHES = 0.6
"""Probability of a second diagonal and, independently, of a second marginal branch."""
WIDTH = (0.85, 1.15)
"""Range of a subject's factor on all radii."""
WANDER_MM = 1.5
"""Standard deviation of the random shift of an artery's control points."""
LIFT_MM = 1.5
"""Fat between the wall of the chambers and that of an artery."""
BEAD_MM = 0.5
"""Distance between the beads that form an artery."""
TAKE_OFF_MM = (4.0, 28.0)
"""Length after which a branch, and a main artery that has to pass the auricles first, lies on the heart."""
FAR_MM = 6.0
"""Limit of the computed distances."""

Beads = NDArray[np.float64]
"""Points of the centre lines and the radius there, (N, 4) in mm."""


def coronary_layers(points: Array, generator: Generator, _: bool) -> Iterator[Layer]:
    """Paint the thorax with the heart unlabelled, and the coronary arteries over it.

    Args:
        points: (3, D, H, W), of the canonical anatomy in millimetres.
        generator: for branches, course and width of the tree.
    """
    for layer in layers(points):
        if layer.tissue != "coronary":  # rings in the grooves, replaced by the tree
            yield Layer(layer.tissue, layer.distance)
    arteries = _strung(points, coronary_tree(generator))
    yield Layer("coronary", inside(arteries, -tube(points, ASCENDING)), 1)


def coronary_tree(generator: Generator) -> Beads:
    """Draw a subject's connected tree: the beads of all arteries."""
    left_dominant = bool(generator.random() < LEFT_DOMINANT)
    second_diagonal, second_marginal = (bool(draw < SECOND_BRANCHES) for draw in generator.random(2))
    width = float(generator.uniform(*WIDTH))

    def artery(way: Sequence[Vector], radii: tuple[float, float], parent: Beads | None = None) -> Beads:
        return _laid(np.array(way, np.float64), np.multiply(radii, width), generator, parent)

    stem = artery([(-11, 5, 26), (-19, 4.5, 29), (-24, 3, 32)], (2.4, 2.2))
    descending = artery(_along((18, 30, 42, 54, 66, 76), (90, 78, 66, 61, 57, 46)), (2.1, 1.2), stem)
    around = (110, 135, 160, 190, 225, 270, 292) if left_dominant else (110, 135, 160, 190, 220)
    circumflex = artery(_about(-1, around), (2.0, 1.5 if left_dominant else 1.1), stem)
    root, grooved = (
        [(9, 12, 26), (15, 26, 24), (24, 37, 17)],
        [(33, 34, 6), (39, 26, -8), (38, 12, -24), (28, -4, -34)],
    )
    crux = [] if left_dominant else [(16, -14, -36), *_about(2, (-69,))]
    right = artery([*root, *grooved, *crux], (2.2, 1.2 if left_dominant else 1.7))
    tree = [
        stem,
        descending,
        circumflex,
        right,
        artery(_along((36, 46, 56), (90, 102, 108)), (1.5, 1.0), descending),
        artery(_along((8, 26, 44), (148, 156, 160)), (1.5, 1.0), circumflex),
        artery(_along((10, 30, 48, 64), (-69, -68, -67, -63)), (1.5, 1.0), circumflex if left_dominant else right),
        artery([(36, 26, -26), (22, 34, -36), (4, 42, -40)], (1.3, 1.0), right),
    ]
    if second_diagonal:
        tree.append(artery(_along((58, 66, 72), (76, 92, 104)), (1.3, 1.0), descending))
    if second_marginal:
        tree.append(artery(_along((10, 26, 40), (192, 200, 204)), (1.3, 1.0), circumflex))
    return np.concatenate(tree)


def _along(distances: Sequence[float], degrees: Sequence[float]) -> list[Vector]:
    """Return points near the surface, by mm towards the apex and angle around that axis, 0 at the right ventricle."""
    turns = np.deg2rad(degrees)
    return [
        heart_point(mm, 34 * float(np.cos(turn)), -34 * float(np.sin(turn)))
        for mm, turn in zip(distances, turns, strict=True)
    ]


def _about(distance: float, degrees: Sequence[float]) -> list[Vector]:
    """Return points around the valves, at one distance."""
    return _along([distance] * len(degrees), degrees)


def _laid(way: Beads, radii: NDArray[np.float64], generator: Generator, parent: Beads | None) -> Beads:
    """Lay an artery on the heart near control points, from its parent's nearest bead or an ostium of the aorta."""
    room = 1.0 if parent is not None else 0.5  # there is little room between the great arteries
    way[1:] += room * WANDER_MM * generator.standard_normal(way[1:].shape)
    if parent is not None:
        nearest = np.argmin(np.linalg.norm(parent[:, :3] - way[0], axis=1))
        way = np.concatenate([parent[nearest, None, :3], way])
    for spacing in (8 * BEAD_MM, 16 * BEAD_MM, BEAD_MM):  # the coarse step in the middle removes kinks
        way = _resampled(way, spacing)
        start = np.linalg.norm(way - way[0], axis=1) / TAKE_OFF_MM[parent is None]
        way += np.minimum(start**2, 1)[:, None] * (_on_the_heart(way, float(radii[0])) - way)
    way = _resampled(way, BEAD_MM)
    return np.column_stack([way, np.linspace(radii[0], radii[1], len(way))])


def _resampled(way: Beads, spacing: float) -> Beads:
    """Return equally spaced points on a smooth curve through points."""
    for _ in range(2):  # twice, since the curve is longer than its chords
        steps = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(way, axis=0), axis=1))])
        count = max(round(steps[-1] / spacing), 4) + 1
        way = make_interp_spline(steps, way, k=min(3, len(way) - 1))(np.linspace(0, steps[-1], count))
    return way


def _on_the_heart(points: Beads, radius: float) -> Beads:
    """Move points along the gradient until they lie on the heart, at an artery's height."""
    for _ in range(12):
        level, slope = _height(points), np.empty_like(points)
        for axis in range(3):
            step = np.zeros(3)
            step[axis] = 0.25
            slope[:, axis] = (_height(points + step) - _height(points - step)) / 0.5
        steep = np.maximum(np.einsum("ij,ij->i", slope, slope), 0.1)
        points = points - np.clip((level - radius - LIFT_MM) / steep, -3, 3)[:, None] * slope
    return points


def _height(points: Beads) -> NDArray[np.float64]:
    """Return the height of points (N, 3) over the chambers and great arteries, with rounded seams."""
    column = points.T.astype(np.float32)[:, :, None, None]
    parts = (*chambers(column).values(), tube(column, ASCENDING), tube(column, PULMONARY))
    result: NDArray[np.float64] = union(*parts, blend=3).astype(np.float64).ravel()
    return result


def _strung(points: Array, beads: Beads) -> Array:
    """Return the distance to the beads, at most `FAR_MM`."""
    low, high = beads[:, :3].min(axis=0) - 2 * FAR_MM, beads[:, :3].max(axis=0) + 2 * FAR_MM
    near = np.all([(points[axis] > low[axis]) & (points[axis] < high[axis]) for axis in range(3)], axis=0)
    widest = beads[:, 3].max()
    apart, which = cKDTree(beads[:, :3]).query(points[:, near].T, distance_upper_bound=FAR_MM + widest)
    radii = np.append(beads[:, 3], 0.0)  # the query returns this index if there is no bead within reach
    result = np.full(points.shape[1:], np.float32(FAR_MM))
    result[near] = np.minimum(apart - radii[which], FAR_MM)
    return result
