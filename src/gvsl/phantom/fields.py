"""Random smooth fields of the phantom: periodic on a lattice, so that they are the same at any shape."""

import numpy as np
from numpy.random import Generator
from scipy import ndimage

from gvsl.phantom.heart import Array

Shape = tuple[int, int, int]

PERIOD = 1.5
"""Period of the random fields, in shortest sides."""
LATTICE = 36
"""Lattice points per period."""
SQUARINGS = 6
WAVES = ((0.20, 0.019), (0.085, 0.009))
"""Two bands of velocity: standard deviations of the smoothing and of each component, in shortest sides."""


def smooth_noise(generator: Generator, sigma: float) -> Array:
    """Draw a periodic field on the lattice, mean square 1, smoothed by `sigma` shortest sides."""
    white = generator.standard_normal((LATTICE, LATTICE, LATTICE), dtype=np.float32)
    smooth = ndimage.gaussian_filter(white, sigma * LATTICE / PERIOD, mode="wrap")
    result: Array = smooth / np.sqrt(np.mean(smooth**2))
    return result


def displacement(generator: Generator) -> Array:
    """Integrate a random velocity by scaling and squaring, on the lattice: (3, ...) in shortest sides."""
    bands = [size * np.stack([smooth_noise(generator, sigma) for _ in range(3)]) for sigma, size in WAVES]
    flow = np.sum(bands, axis=0) * np.float32(LATTICE / PERIOD / 2**SQUARINGS)
    grid = np.indices((LATTICE, LATTICE, LATTICE), dtype=np.float32)
    for _ in range(SQUARINGS):
        warped = grid + flow
        flow += np.stack([ndimage.map_coordinates(part, warped, order=1, mode="grid-wrap") for part in flow])
    result: Array = flow * np.float32(PERIOD / LATTICE)
    return result


def sample(fields: Array, shape: Shape) -> Array:
    """Sample fields (C, ...) on the periodic lattice at the voxels, by cubic splines: (C, D, H, W)."""
    for size in shape:
        # Splines are separable: one small matrix per axis, from interpolating the unit vectors.
        where = (np.arange(size) - (size - 1) / 2) / min(shape) * (LATTICE / PERIOD) + LATTICE / 2
        points = np.meshgrid(where, np.arange(LATTICE), indexing="ij")
        weights = ndimage.map_coordinates(np.eye(LATTICE), points, order=3, mode="grid-wrap")
        # The sampled axis becomes the last, and the next one takes its place.
        fields = np.tensordot(fields, weights.astype(np.float32), axes=(1, 1))
    return fields
