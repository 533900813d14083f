"""The phantom's lungs, with lesions or without, on CT without contrast medium: the task of telling the two apart."""

from collections.abc import Iterator

import numpy as np
from numpy.random import Generator
from scipy.spatial.transform import Rotation

from gvsl.phantom.heart import CLEAR, Array, Layer, Vector, chest_wall, ellipsoid, inside, layers

LESION_LABELS: dict[int, str] = {1: "lesion"}
LUNGS_CENTRE: Vector = (0.0, -14.0, 5.0)
"""The middle of both lungs."""
LUNGS_FIELD_OF_VIEW = 290.0
"""Millimetres of the adult body that the shortest side shows on average."""

LESION_TISSUES: dict[str, tuple[float, float]] = {"ground glass": (-480, 50), "consolidation": (-20, 35)}
"""Mean and standard deviation over subjects in Hounsfield units."""
BLOOD = (45.0, 6.0)
"""The same of all blood, which no contrast medium brightens."""
LESIONS = (8, 20)
"""Fewest and most lesions of a subject that has any."""
RADII_MM = (14.0, 34.0)
CORE = 0.5
"""Share of a lesion's radii within which it is consolidated, where it is."""
CONSOLIDATED = 0.4
"""Share of the lesions that are."""
DEPTH_MM = (4.0, 26.0)
"""How deep under the inside of the chest the middles lie: such lesions sit at the periphery."""
HEIGHT_MM = (-55.0, 75.0)
BEHIND = 0.7
"""Share of the lesions in the back half of the chest."""


def lung_layers(points: Array, generator: Generator, diseased: bool) -> Iterator[Layer]:
    """Paint the thorax, and lesions within its lungs if the subject is diseased.

    Args:
        points: (3, D, H, W), of the canonical anatomy in millimetres.
        generator: where number, places, shapes and density of the lesions come from.
        diseased: whether there are any.
    """
    lesions = list(_lesions(points, generator)) if diseased else []
    for layer in layers(points, lesions):
        # What lies over a lesion hides it, and the heart's structures have no label here.
        yield layer if layer.tissue in LESION_TISSUES else Layer(layer.tissue, layer.distance, CLEAR)


def _lesions(points: Array, generator: Generator) -> Iterator[Layer]:
    chest = chest_wall(points) + 1
    for _ in range(int(generator.integers(LESIONS[0], LESIONS[1] + 1))):
        centre = _at_the_wall(generator)
        first, second, third = (float(radius) for radius in generator.uniform(*RADII_MM, 3))
        frame = Rotation.from_euler("xyz", generator.uniform(0, np.pi, 3)).as_matrix().astype(np.float32)
        blob = ellipsoid(points, centre, (first, second, third), frame)
        yield Layer("ground glass", inside(blob, chest), 1)
        if generator.random() < CONSOLIDATED:
            core = ellipsoid(points, centre, (CORE * first, CORE * second, CORE * third), frame)
            yield Layer("consolidation", inside(core, chest), 1)


def _at_the_wall(generator: Generator) -> Vector:
    """A point under the inside of the chest, to the side of the spine, mostly at the back."""
    behind = generator.random() < BEHIND
    angle = np.deg2rad(generator.uniform(*((200.0, 250.0) if behind else (150.0, 200.0))))
    side = -1.0 if generator.random() < 0.5 else 1.0
    depth, height = generator.uniform(*DEPTH_MM), generator.uniform(*HEIGHT_MM)
    # Out along a ray from the middle of the chest until the wall is as near as asked.
    ray = np.linspace(0, 140, 281)
    along = np.stack([-side * np.cos(angle) * ray, np.sin(angle) * ray - 14, np.full_like(ray, height)])
    wall = chest_wall(along.astype(np.float32))
    place = along[:, int(np.argmax(wall > -depth))]
    return float(place[0]), float(place[1]), float(place[2])
