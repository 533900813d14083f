"""The phantom's head: a brain on T1-weighted MR, as signed distances to points.

It has CANDI's 28 structures and label values, so that a model trained on one can be tested on the other.

Units are millimetres of an adult head, in RAS+ axes with the origin between the thalami; points are (3, D, H, W).
Paired structures are mirror images here, and a subject's deformation makes them differ. Only the contrast is random.
"""

from collections.abc import Iterator

import numpy as np
from numpy.random import Generator

from gvsl.datasets.candi import MIDDLE, SIDES
from gvsl.phantom.heart import Array, Layer, Node, ellipsoid, inside, tube, union

TISSUES: dict[str, tuple[float, float]] = {
    "fat": (980, 40),
    "muscle": (380, 30),
    "bone": (70, 15),
    "marrow": (560, 60),
    "fluid": (150, 15),
    "white matter": (820, 15),
    "cortex": (530, 20),
    "cerebellar cortex": (520, 20),
    "thalamus": (655, 15),
    "caudate": (570, 15),
    "putamen": (600, 15),
    "pallidum": (725, 15),
    "hippocampus": (545, 15),
    "amygdala": (535, 15),
    "ventral diencephalon": (700, 15),
    "brain stem": (745, 15),
}
"""Mean and standard deviation over subjects, before scaling."""
SCALE = (0.4, 1.6)
"""Range of the scale, since MR has no unit."""

FOLD_MM = 27.0
"""Period of the cortical folds."""
SULCUS_MM = 13.0
"""Depth of the sulci."""
CORTEX_MM = 3.0
FOLIUM_MM = 7.0
"""Distance between the folia of the cerebellum."""

VENTRICLE: list[Node] = [
    (6, 27, 6, 4),
    (8, 14, 15, 5.5),
    (10, -8, 20, 5.5),
    (15, -26, 19, 6),
    (25, -40, 10, 7),
    (26, -54, 5, 5),
    (25, -66, 4, 3),
]
CAUDATE: list[Node] = [(13, 22, 2, 7), (15, 12, 13, 6), (18, -4, 20, 4), (23, -20, 21, 3), (29, -32, 12, 2.4)]
HIPPOCAMPUS: list[Node] = [(24, -13, -19, 6.5), (28, -21, -16, 5.5), (29, -30, -9, 4.6), (24, -37, 0, 3.4)]
CALLOSUM: list[Node] = [
    (0, 16, -1, 3),
    (0, 29, 6, 5),
    (0, 22, 19, 4),
    (0, 0, 27, 3.5),
    (0, -22, 26, 3.5),
    (0, -38, 14, 6),
]
STEM: list[Node] = [(0, -21, -10, 12), (0, -23, -28, 15), (0, -34, -48, 10), (0, -42, -66, 8), (0, -48, -130, 7)]


def brain_appearance(generator: Generator) -> dict[str, float]:
    """Draw an intensity for every tissue of a T1-weighted image."""
    factor = float(generator.uniform(*SCALE))
    values = {name: factor * float(generator.normal(mean, spread)) for name, (mean, spread) in TISSUES.items()}
    return values | {"air": 0.0}


def brain_layers(points: Array) -> Iterator[Layer]:
    """Paint the whole head over air, from the outside in: later layers cover earlier ones."""
    mirrored = np.concatenate([np.abs(points[:1]), points[1:]])
    hemisphere, cerebellum, stem = _hemisphere(mirrored), _cerebellum(mirrored), tube(points, STEM)
    yield from _head(points, mirrored, union(hemisphere, cerebellum, blend=14))
    yield from _cerebrum(points, mirrored, hemisphere)
    yield from _hindbrain(points, mirrored, cerebellum, stem)
    yield from _deep_nuclei(points, mirrored)
    yield from _ventricles(points, mirrored)


def _sides(points: Array, tissue: str, distance: Array, structure: str) -> Iterator[Layer]:
    """Paint a paired structure, with a label for each side."""
    left, right = SIDES[structure]
    yield Layer(tissue, inside(distance, points[0]), left)
    yield Layer(tissue, inside(distance, -points[0]), right)


def _middle(structure: str) -> int:
    return next(value for value, name in MIDDLE.items() if name == structure)


def _hemisphere(mirrored: Array) -> Array:
    """Return the distance to the hull of a cerebral hemisphere, without folds."""
    upper = ellipsoid(mirrored, (20, -18, 22), (46, 87, 52))
    temporal = ellipsoid(mirrored, (44, -14, -20), (20, 44, 20))
    frontal = ellipsoid(mirrored, (20, 32, 0), (29, 36, 24))
    occipital = ellipsoid(mirrored, (22, -76, 4), (28, 30, 24))
    # There is no cerebrum below the temporal horns and between the temporal lobes.
    floor = -16 - mirrored[2] - 0.25 * np.maximum(mirrored[1], 0)
    roof = inside(union(upper, frontal, occipital, blend=8), floor)
    fissure = 1.0 - mirrored[0]
    return inside(union(roof, temporal, blend=4), fissure)


def _cerebellum(mirrored: Array) -> Array:
    lobe = ellipsoid(mirrored, (24, -64, -36), (31, 28, 21))
    vermis = ellipsoid(mirrored, (0, -64, -34), (12, 24, 20))
    return union(lobe, vermis, blend=6)


def _head(points: Array, mirrored: Array, brain: Array) -> Iterator[Layer]:
    """Paint skin, skull and marrow, face, neck, eyes and the fluid around the brain."""
    face = ellipsoid(points, (0, 42, -62), (52, 50, 62))
    neck = ellipsoid(points, (0, -28, -120), (54, 58, 90))
    head = union(brain - 14, face, neck, blend=20)
    yield Layer("fat", head)
    yield Layer("muscle", head + 3.5)
    muscle = ellipsoid(mirrored, (58, 10, -14), (8, 26, 34))  # temporal muscle
    skull = brain - 9.5
    yield Layer("bone", skull)
    yield Layer("marrow", inside(brain - 7.5, 5 - brain))
    yield Layer("muscle", inside(muscle, -skull))
    eye = ellipsoid(mirrored, (32, 68, -30), (12, 12, 12))
    yield Layer("fat", inside(eye - 6, -skull))
    yield Layer("muscle", eye - 1)
    yield Layer("fluid", eye)
    yield Layer("air", ellipsoid(mirrored, (8, 62, -50), (6, 30, 16)))  # the nose
    yield Layer("air", tube(points, [(0, 18, -66, 9), (0, 8, -90, 9), (0, 2, -150, 8)]))  # the throat
    yield Layer("fluid", union(brain - 2.5, tube(points, STEM) - 4))
    cistern = ellipsoid(points, (0, 6, -15), (12, 9, 7))
    yield Layer("fluid", cistern, _middle("cerebrospinal fluid"))


def _cerebrum(points: Array, mirrored: Array, hemisphere: Array) -> Iterator[Layer]:
    """Paint the folded cortex and the white matter under it, joined by the corpus callosum."""
    folds = inside(_folds(mirrored), -SULCUS_MM - hemisphere)
    sylvian = inside(_slit(mirrored), 30 - mirrored[0])
    sulci = union(folds, sylvian)
    cortex = inside(hemisphere, -sulci)
    yield from _sides(points, "cortex", cortex, "cerebral cortex")
    white = inside(hemisphere + CORTEX_MM, CORTEX_MM - sulci)
    yield from _sides(points, "white matter", white, "cerebral white matter")
    flat = np.concatenate([np.zeros_like(points[:1]), points[1:]])
    callosum = inside(tube(flat, CALLOSUM), mirrored[0] - 14)
    core = ellipsoid(mirrored, (21, -8, 5), (15, 29, 15))  # white matter around the nuclei, without folds
    yield from _sides(points, "white matter", union(callosum, core), "cerebral white matter")


def _folds(mirrored: Array) -> Array:
    """Return the distance to the sulci, the walls of a distorted gyroid."""
    u, v, w = mirrored * np.float32(2 * np.pi / FOLD_MM)
    u, v, w = u + 0.7 * np.sin(0.43 * w), v + 0.6 * np.sin(0.37 * u + 1), w + 0.7 * np.sin(0.41 * v + 2)
    level = np.sin(u) * np.cos(v) + np.sin(v) * np.cos(w) + np.sin(w) * np.cos(u)
    result: Array = np.abs(level) * np.float32(FOLD_MM / (2 * np.pi) / 1.3) - np.float32(0.7)
    return result


def _slit(mirrored: Array) -> Array:
    """Return the distance to the lateral sulcus above the temporal lobe."""
    result: Array = np.abs(mirrored[2] + 5 - 0.22 * (-mirrored[1] - 10)) - np.float32(1.0)
    return inside(result, np.abs(mirrored[1] + 4) - 34)


def _hindbrain(points: Array, mirrored: Array, cerebellum: Array, stem: Array) -> Iterator[Layer]:
    """Paint the cerebellum with its folia, and the brain stem."""
    folia = np.cos((mirrored[2] + 0.35 * mirrored[1] + 0.004 * mirrored[0] ** 2) * np.float32(2 * np.pi / FOLIUM_MM))
    furrows = inside(2.2 * (0.93 - folia), -7 - cerebellum)
    yield from _sides(points, "cerebellar cortex", inside(cerebellum, -furrows), "cerebellar cortex")
    core = ellipsoid(mirrored, (20, -57, -36), (14, 11, 6))
    arbour = inside(cerebellum + 9 + 3.5 * folia, 5 - mirrored[0])
    white = inside(union(core, arbour), cerebellum + 4)
    peduncle = tube(mirrored, [(8, -26, -30, 8), (18, -46, -36, 7)])
    yield from _sides(points, "white matter", union(white, peduncle), "cerebellar white matter")
    yield Layer("brain stem", stem, _middle("brain stem"))
    yield Layer("fluid", ellipsoid(points, (0, -42, -34), (8, 5.5, 11)), _middle("fourth ventricle"))


def _deep_nuclei(points: Array, mirrored: Array) -> Iterator[Layer]:
    """Paint the grey matter around the ventricles and in the temporal lobes."""
    tilt = _turned(-14)
    shapes = {
        "ventral diencephalon": ellipsoid(mirrored, (9, -14, -7), (8.5, 9, 6)),
        "thalamus": ellipsoid(mirrored, (11.5, -17, 7), (9, 15, 9), _turned(24)),
        "putamen": ellipsoid(mirrored, (27, 2, 2), (6, 20, 11), tilt),
        "pallidum": ellipsoid(mirrored, (20, -2, 0), (4.6, 11, 7.5), _turned(-24)),
        "caudate": tube(mirrored, CAUDATE),
        "amygdala": ellipsoid(mirrored, (23, -1, -19), (8, 6.5, 7)),
        "hippocampus": tube(mirrored, HIPPOCAMPUS),
    }
    for structure, distance in shapes.items():
        yield from _sides(points, structure, distance, structure)


def _turned(degrees: float) -> Array:
    """Return the directions of an ellipsoid's radii after a rotation around the vertical axis."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]], np.float32)


def _ventricles(points: Array, mirrored: Array) -> Iterator[Layer]:
    """Paint the lateral ventricles, and the third ventricle between the thalami."""
    lateral = inside(tube(mirrored, VENTRICLE), 0.8 - mirrored[0])
    yield from _sides(points, "fluid", lateral, "lateral ventricle")
    yield Layer("fluid", ellipsoid(points, (0, -12, 1), (2.8, 14, 11)), _middle("third ventricle"))
