"""The phantom's lungs with and without lesions, on CT without contrast medium, for classification."""

from collections.abc import Iterator

import numpy as np
from numpy.random import Generator
from scipy.spatial.transform import Rotation

from gvsl.phantom.heart import CLEAR, Array, Layer, Vector, chest_wall, ellipsoid, inside, layers

LESION_LABELS: dict[int, str] = {1: "lesion"}

LESION_TISSUES: dict[str, tuple[float, float]] = {"ground glass": (-480, 50), "consolidation": (-20, 35)}
"""Mean and standard deviation over subjects in Hounsfield units."""
BLOOD = (45.0, 6.0)
"""Mean and standard deviation of blood without contrast medium."""
LESIONS = (8, 20)
"""Range of the number of lesions in a diseased subject."""
RADII_MM = (14.0, 34.0)
CORE = 0.5
"""Size of a consolidated core as a fraction of the lesion."""
CONSOLIDATED = 0.4
"""Fraction of the lesions with a consolidated core."""
DEPTH_MM = (4.0, 26.0)
"""Range of the depth of lesion centres under the chest wall: they are peripheral."""
HEIGHT_MM = (-55.0, 75.0)
BEHIND = 0.7
"""Fraction of the lesions in the posterior half of the chest."""


def lung_layers(points: Array, generator: Generator, diseased: bool) -> Iterator[Layer]:
    """Paint the thorax, with lesions in the lungs of a diseased subject.

    Args:
        points: (3, D, H, W), of the canonical anatomy in millimetres.
        generator: for number, positions, shapes and density of the lesions.
        diseased: True for lesions.
    """
    lesions = list(_lesions(points, generator)) if diseased else []
    for layer in layers(points, lesions):
        # Later layers hide a lesion, and the heart's structures have no label here.
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
    """Draw a point under the chest wall, beside the spine, mostly posterior."""
    behind = generator.random() < BEHIND
    angle = np.deg2rad(generator.uniform(*((200.0, 250.0) if behind else (150.0, 200.0))))
    side = -1.0 if generator.random() < 0.5 else 1.0
    depth, height = generator.uniform(*DEPTH_MM), generator.uniform(*HEIGHT_MM)
    # Follow a ray from the middle of the chest to the drawn depth under the wall.
    ray = np.linspace(0, 140, 281)
    along = np.stack([-side * np.cos(angle) * ray, np.sin(angle) * ray - 14, np.full_like(ray, height)])
    wall = chest_wall(along.astype(np.float32))
    point = along[:, int(np.argmax(wall > -depth))]
    return float(point[0]), float(point[1]), float(point[2])
