"""The phantom's canonical anatomy: a contrast-enhanced heart in its thorax, as signed distances to points.

Units are millimetres of an adult body, in RAS+ axes with the origin in the heart; points are (3, D, H, W). Distances
are (D, H, W), negative inside, and approximately right near the surface. Nothing here is random.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Vector = tuple[float, float, float]
Node = tuple[float, float, float, float]
"""A point x y z on a tube's centre line, and the radius there."""

HEART_LABELS: dict[int, str] = {
    1: "left ventricle",
    2: "right ventricle",
    3: "left atrium",
    4: "right atrium",
    5: "myocardium",
    6: "ascending aorta",
    7: "pulmonary artery",
}
"""The structures of MM-WHS by label value: blood pools, and the myocardium of the left ventricle."""

CLEAR = -1


class Layer(NamedTuple):
    """A tissue painted over earlier layers where `distance` is negative."""

    tissue: str
    distance: Array
    label: int = 0
    """Label of the structure; 0 keeps the label of earlier layers, CLEAR removes it."""


# --- shapes ---


def as_column(vector: Vector) -> Array:
    """Reshape a vector to (3, 1, 1, 1) for arithmetic with points."""
    return np.asarray(vector, np.float32).reshape(3, 1, 1, 1)


def ellipsoid(points: Array, centre: Vector, radii: Vector, frame: Array | None = None) -> Array:
    """Return the distance to an ellipsoid; the rows of `frame` (3, 3) are the directions of the radii."""
    scaled = points - as_column(centre)
    if frame is not None:
        scaled = np.tensordot(frame, scaled, axes=1)
    scaled /= as_column(radii)
    level = np.sqrt(np.einsum("i...,i...->...", scaled, scaled))
    scaled /= as_column(radii)
    slope = np.sqrt(np.einsum("i...,i...->...", scaled, scaled))
    # Division by the slope turns the level into a length near the surface.
    result: Array = level * (level - 1) / np.maximum(slope, np.float32(1e-4))
    return result


def tube(points: Array, path: Sequence[Node]) -> Array:
    """Return the distance to a chain of cones with round joints, at most 20 mm."""
    far = np.float32(20)
    nodes = np.asarray(path, np.float32)
    reach = nodes[:, 3].max() + far
    near = np.ones(points.shape[1:], bool)  # most points are far from the tube and are skipped
    for axis in range(3):
        near &= points[axis] > nodes[:, axis].min() - reach
        near &= points[axis] < nodes[:, axis].max() + reach
    chosen = points[:, near]
    nearest = np.full(chosen.shape[1], far)
    for start, end in pairwise(nodes):
        along = end[:3] - start[:3]
        local = chosen - start[:3, None]
        fraction = np.clip(along @ local / np.dot(along, along), 0, 1)
        local -= along[:, None] * fraction
        radius = start[3] + (end[3] - start[3]) * fraction
        np.minimum(nearest, np.sqrt(np.einsum("ij,ij->j", local, local)) - radius, out=nearest)
    result = np.full(points.shape[1:], far)
    result[near] = nearest
    return result


def cylinder(one: Array, other: Array, radii: tuple[float, float]) -> Array:
    """Return the distance to an infinite elliptic cylinder, from the two coordinates across it."""
    level = np.hypot(one / np.float32(radii[0]), other / np.float32(radii[1]))
    return (level - 1) * np.float32(min(radii))


def union(*distances: Array, blend: float = 0.0) -> Array:
    """Return the distance to the union of shapes, with a fillet of `blend` mm in the seams."""
    result = distances[0]
    for other in distances[1:]:
        seam = np.maximum(np.float32(blend) - np.abs(result - other), 0)
        result = np.minimum(result, other) - seam**2 / np.float32(max(4 * blend, 1e-6))
    return result


def inside(*distances: Array) -> Array:
    """Return the distance to the intersection of shapes; a negated one is cut away."""
    result = distances[0]
    for other in distances[1:]:
        result = np.maximum(result, other)
    return result


def groove(one: Array, other: Array) -> Array:
    """Return the distance to a coronary artery in the groove between two chambers."""
    return np.hypot(one - np.float32(5), other - np.float32(5)) - np.float32(2.4)


def sheet(surface: Array) -> Array:
    """Return the distance to a thin leaflet along a shape's surface."""
    result: Array = np.abs(surface) - np.float32(0.8)
    return result


# --- the heart ---

MITRAL: Vector = (-10.0, -12.0, 4.0)
"""Centre of the mitral valve, the origin of the heart's frame."""
HEART_FRAME: Array = np.array(
    [[-0.6603, 0.5602, -0.5002], [0.6954, 0.7076, -0.1254], [0.2837, -0.4307, -0.8568]], np.float32
)
"""Rows: to the apex (left, front, down), through the septum to the right ventricle, to the inferior wall."""

ASCENDING: list[Node] = [(-2, 2, 17, 14), (2, 5, 27, 17), (9, 10, 42, 15), (13, 9, 56, 14.5), (11, 2, 68, 14)]
ARCH: list[Node] = [(11, 2, 68, 14), (4, -12, 77, 13), (-10, -34, 79, 12), (-23, -54, 70, 12), (-28, -64, 50, 11.5)]
DESCENDING: list[Node] = [(-28, -64, 50, 11.5), (-29, -66, 0, 11), (-24, -66, -60, 10.5), (-18, -66, -150, 10)]
OUTFLOW: list[Node] = [(0, 34, 6, 18), (-12, 36, 18, 15), (-18, 33, 26, 12)]
PULMONARY: list[Node] = [(-18, 32, 28, 13.5), (-23, 20, 41, 14), (-24, 2, 51, 13)]
LEFT_PULMONARY: list[Node] = [(-24, 2, 51, 13), (-34, -18, 54, 10.5), (-50, -36, 50, 8)]
RIGHT_PULMONARY: list[Node] = [(-24, 2, 51, 12), (-8, -16, 51, 10.5), (14, -20, 50, 10), (44, -22, 44, 8)]
SUPERIOR_CAVA: list[Node] = [(34, -6, 18, 10), (32, -2, 50, 9), (29, 4, 90, 9), (24, 12, 130, 9)]
INFERIOR_CAVA: list[Node] = [(32, -14, -20, 12), (28, -24, -50, 12), (24, -34, -150, 12)]
PULMONARY_VEINS: list[list[Node]] = [
    [(-20, -38, 26, 8), (-42, -46, 34, 7), (-62, -50, 42, 5)],
    [(-22, -46, 8, 8), (-44, -58, 4, 7), (-64, -66, -4, 5)],
    [(22, -38, 24, 8), (44, -38, 30, 7), (64, -36, 34, 5)],
    [(22, -46, 6, 8), (42, -56, 2, 7), (64, -62, -6, 5)],
]


def heart_point(along: float, across: float, down: float) -> Vector:
    """Return the point at these mm along the rows of the heart's frame."""
    x, y, z = np.asarray(MITRAL) + np.array((along, across, down)) @ HEART_FRAME
    return float(x), float(y), float(z)


def beyond_mitral(points: Array) -> Array:
    """Return the signed distance from the plane of the mitral valve, positive towards the apex."""
    result: Array = np.tensordot(HEART_FRAME[0], points - as_column(MITRAL), axes=1)
    return result


def chambers(points: Array) -> dict[str, Array]:
    """Return the distances to the chambers, which may overlap."""
    base = -beyond_mitral(points)
    right_ventricle = ellipsoid(points, heart_point(21, 32, 2), (45, 27, 35), HEART_FRAME)
    left_atrium = ellipsoid(points, (3, -35, 15), (32, 20, 24))
    left_appendage = tube(points, [(-26, -26, 22, 9), (-38, -8, 27, 10), (-36, 6, 26, 6)])
    right_atrium = ellipsoid(points, (38, -2, 3), (24, 27, 30))
    right_appendage = tube(points, [(36, 8, 18, 12), (24, 24, 28, 8)])
    middle = heart_point(25, 0, 0)
    outer = ellipsoid(points, middle, (55, 32, 32), HEART_FRAME)
    return {
        "wall": inside(outer, base - 4),
        # The pool extends further back than the wall, so that the valve is open.
        "left ventricle": inside(ellipsoid(points, middle, (46, 22, 22), HEART_FRAME), base - 7),
        "right ventricle": inside(union(right_ventricle, tube(points, OUTFLOW), blend=10), -outer),
        "left atrium": union(left_atrium, left_appendage, blend=6),
        "right atrium": union(right_atrium, right_appendage, blend=6),
    }


def heart_layers(points: Array, parts: dict[str, Array], ascending: Array, pulmonary: Array) -> Iterator[Layer]:
    """Paint the heart and the roots of its great vessels."""
    beside_aorta = 3 - ascending  # its wall lies between
    wall, left, right = parts["wall"], parts["left ventricle"], inside(parts["right ventricle"], beside_aorta)
    left_atrium, right_atrium = parts["left atrium"], inside(parts["right atrium"], beside_aorta)
    pulmonary = inside(pulmonary, beside_aorta)
    yield Layer("thin wall", union(right - 3.5, left_atrium - 2.5, right_atrium - 2.5))
    for one, other in ((wall, right), (right_atrium, right), (wall, left_atrium)):
        yield Layer("coronary", groove(one, other))
    yield Layer("thin wall", union(ascending, pulmonary) - 2)
    yield Layer("right atrial blood", right_atrium, 4)
    yield Layer("left atrial blood", left_atrium, 3)
    yield Layer("right blood", right, 2)
    yield Layer("myocardium", wall, 5)
    yield Layer("left blood", left, 1)
    yield Layer("right blood", pulmonary, 7)
    yield Layer("left blood", ascending, 6)

    # Papillary muscles, moderator band and leaflets keep the label of the blood pool.
    papillary = union(
        tube(points, [(*heart_point(48, 8, -16), 4.5), (*heart_point(24, 0, -13), 3.5)]),
        tube(points, [(*heart_point(46, -12, 12), 4.5), (*heart_point(24, -8, 10), 3.5)]),
    )
    yield Layer("papillary", inside(papillary, left))
    band = tube(points, [(*heart_point(38, 24, -4), 3), (*heart_point(40, 50, 6), 3)])
    yield Layer("papillary", inside(band, right))
    mitral = beyond_mitral(points) + np.float32(5) + left * np.float32(0.5)  # a funnel towards the apex
    yield Layer("papillary", inside(sheet(mitral), union(left, left_atrium)))
    for valve, pool in ((right, right_atrium), (pulmonary, right), (ascending, left)):
        yield Layer("papillary", inside(sheet(valve), pool))


# --- the thorax ---


def chest_wall(points: Array) -> Array:
    """Return the distance to the inside of the chest, a vertical superelliptic cylinder that narrows upwards."""
    narrowing = 1 - np.clip((points[2] - 30) / 350, 0, 0.5)
    across, deep = np.abs(points[0]) / (106 * narrowing), np.abs(points[1] + 14) / (76 * narrowing)
    result: Array = (np.cbrt(across**3 + deep**3) - 1) * np.float32(82)
    return result


def ribs(points: Array, chest: Array) -> Iterator[Layer]:
    """Paint the ribs, which slope down to the front and end in cartilage, and the sternum."""
    x, y, z = points
    level = np.mod(z + 0.4 * y + 8, 27) - 13.5
    rib = cylinder(chest - 8, level, (4.5, 6.5))
    front = cylinder(x, y - 62, (42, 34))
    yield Layer("cartilage", inside(rib, front))
    yield Layer("cortex", inside(rib, -front))
    yield Layer("marrow", inside(rib + 2.2, -front))
    sternum = ellipsoid(points, (0, 71, 25), (17, 6.5, 85))
    yield Layer("cortex", sternum)
    yield Layer("marrow", sternum + 2.5)


def spine(points: Array) -> Iterator[Layer]:
    """Paint vertebrae every 27 mm, with discs, arches, transverse processes and the spinal canal."""
    x, y, z = points
    level = np.abs(np.mod(z + 4, 27) - 13.5)  # 0 in the middle of a vertebra, 13.5 in the middle of a disc
    disc = cylinder(x, y + 84, (20, 16))
    body = inside(disc + 1.5 * (1 - level / 13.5), level - 11)  # with a waist
    arch = inside(cylinder(x, y + 108, (17, 15)), level - 9)
    process = inside(cylinder(y + 112, level, (6, 6)), np.abs(x) - 38)
    yield Layer("muscle", disc - 3)
    yield Layer("disc", disc)
    yield Layer("cortex", union(body, arch, process))
    yield Layer("marrow", body + 2.5)
    yield Layer("canal", cylinder(x, y + 108, (9, 8)))


def lungs(points: Array, chest: Array) -> Iterator[Layer]:
    """Paint the lungs and their vessels, lines where two smooth waves vanish, thinner outwards."""
    yield Layer("lung", chest)
    x, y, z = points / np.float32(7)
    one = np.sin(x + 0.6 * y) + np.sin(y - 0.5 * z + 1) + np.sin(z + 0.4 * x + 2)
    other = np.sin(0.9 * x - 0.7 * z + 3) + np.sin(0.8 * y + 0.7 * x + 5) + np.sin(1.1 * z - 0.4 * y)
    hilum = np.sqrt((np.abs(points[0]) - 45) ** 2 + (points[1] + 44) ** 2 + (points[2] - 40) ** 2)
    radius = np.maximum(5.5 - hilum / 16, 1.6)
    yield Layer("lung vessel", inside(np.hypot(one, other) * np.float32(4) - radius, chest + 3))


def abdomen(points: Array, chest: Array) -> Iterator[Layer]:
    """Paint the domes of the diaphragm with liver, stomach and spleen."""
    right = ellipsoid(points, (46, -6, -122), (66, 78, 84))
    left = ellipsoid(points, (-44, -6, -128), (66, 76, 80))
    dome = inside(union(right, left, blend=12), chest)
    liver = union(right, ellipsoid(points, (-4, 22, -105), (56, 42, 50)), blend=10)
    stomach = inside(ellipsoid(points, (-52, 4, -98), (32, 44, 44)), dome + 6)
    yield Layer("muscle", dome)
    yield Layer("fat", dome + 3)
    yield Layer("liver", inside(liver, dome) + 3.5)
    yield Layer("muscle", stomach)
    yield Layer("canal", stomach + 3)
    yield Layer("air", inside(stomach + 3, 14 - points[1]))  # at the front: the patient is supine
    yield Layer("spleen", inside(ellipsoid(points, (-66, -56, -98), (24, 28, 40)), dome + 4))


def airways(points: Array) -> Iterator[Layer]:
    """Paint the trachea with the main bronchi, and the oesophagus."""
    trachea = union(
        tube(points, [(2, -30, 140, 9), (1, -38, 66, 8.5), (24, -44, 48, 7), (46, -48, 34, 5)]),
        tube(points, [(1, -38, 66, 8), (-24, -46, 44, 6.5), (-46, -52, 30, 5)]),
    )
    yield Layer("muscle", trachea - 2)
    yield Layer("air", trachea)
    yield Layer("muscle", tube(points, [(-2, -54, 140, 7), (-6, -60, 20, 6), (-14, -58, -60, 7)]))


def layers(points: Array, in_lungs: Iterable[Layer] = ()) -> Iterator[Layer]:
    """Paint the anatomy over air from the outside in; later layers cover earlier ones, and `in_lungs` the lungs."""
    chest = chest_wall(points)
    parts = chambers(points)
    ascending = tube(points, ASCENDING)
    pulmonary = union(*(tube(points, path) for path in (PULMONARY, LEFT_PULMONARY, RIGHT_PULMONARY)), blend=3)
    aorta = union(tube(points, ARCH), tube(points, DESCENDING))
    cavae = union(tube(points, SUPERIOR_CAVA), tube(points, INFERIOR_CAVA))

    yield Layer("muscle", chest - 26)  # the skin
    yield Layer("fat", chest - 23.5)
    yield Layer("muscle", chest - 15)
    yield from ribs(points, chest)
    yield from lungs(points, chest)
    yield from in_lungs
    yield from abdomen(points, chest)

    column = cylinder(points[0], points[1] + 6, (30, 66)) + np.abs(points[2] - 70) / 6
    vessels = union(ascending, pulmonary, aorta, cavae)
    fat = union(*(part - 6 for part in parts.values()), vessels - 4, column, blend=16)
    yield Layer("muscle", inside(fat - 1.5, chest))  # pleura and pericardium
    yield Layer("fat", inside(fat, chest))
    yield from spine(points)
    yield from airways(points)
    yield Layer("right blood", cavae)
    yield Layer("left blood", union(aorta, *(tube(points, path) for path in PULMONARY_VEINS)))
    yield from heart_layers(points, parts, ascending, pulmonary)
