"""Simulated scanners: bias field, noise and intensity range of CT and MR."""

import numpy as np
from numpy.random import Generator
from scipy import ndimage

from gvsl.phantom.fields import Shape, sample, smooth_noise
from gvsl.phantom.heart import Array

CT_GAIN = (0.01, 0.04)
"""Range of the bias field's strength, the standard deviation of its logarithm."""
CT_NOISE = (12.0, 32.0)
"""Range of the standard deviation in Hounsfield units."""
MR_GAIN = (0.05, 0.15)
MR_NOISE = (0.015, 0.035)
"""Range of the standard deviation as a fraction of the brightest tissue."""


def ct(image: Array, look: Generator, grain: Generator) -> Array:
    """Simulate CT of tissues in Hounsfield units, with values from -1024 to 3071.

    Args:
        image: (D, H, W), with partial volumes at the edges of tissues.
        look: for the bias field, which is the same at any shape.
        grain: for the noise, which depends on the voxels.
    """
    shape = (image.shape[0], image.shape[1], image.shape[2])
    scanned = (
        (image + 1024) * gain(look, shape, CT_GAIN) - 1024 + np.float32(grain.uniform(*CT_NOISE)) * noise(grain, shape)
    )
    result: Array = np.clip(scanned, -1024, 3071)
    return result


def mr(image: Array, look: Generator, grain: Generator) -> Array:
    """Simulate magnitude MR with Rician noise, of tissues in a scanner's own unit from 0; arguments as in `ct`."""
    shape = (image.shape[0], image.shape[1], image.shape[2])
    strength = np.float32(grain.uniform(*MR_NOISE) * image.max())
    real = image * gain(look, shape, MR_GAIN) + strength * noise(grain, shape)
    return np.hypot(real, strength * noise(grain, shape))


def gain(generator: Generator, shape: Shape, strengths: tuple[float, float]) -> Array:
    """Draw a bias field (D, H, W) around one."""
    strength = np.float32(generator.uniform(*strengths))
    result: Array = np.exp(strength * sample(smooth_noise(generator, 0.22)[None], shape)[0])
    return result


def noise(generator: Generator, shape: Shape) -> Array:
    """Draw slightly smooth noise (D, H, W) of standard deviation 1."""
    grain = ndimage.gaussian_filter(generator.standard_normal(shape, dtype=np.float32), 0.6)
    result: Array = grain / grain.std()
    return result
