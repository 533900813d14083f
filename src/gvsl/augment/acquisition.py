"""Changes of an image as between scanners and protocols: the intensity augmentation of nnU-Net (Isensee et al., 2021).

Noise, blur, brightness, contrast, low resolution and gamma are nnU-Net's, the curve is that of Appendix C.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gvsl.augment.draw import bernoulli, uniform
from gvsl.augment.intensity import IntensityDraw, change_intensity, draw_intensity
from gvsl.augment.noise import add_noise, draw_noise
from gvsl.geometry import ALIGN_CORNERS, gaussian_smooth
from gvsl.geometry.grid import spatial_shape
from gvsl.settings.augment import AcquisitionSettings as AcquisitionSettings


class AcquisitionDraw(NamedTuple):
    """Parameters of the changes for a batch, each (B,); neutral where a volume is not changed."""

    curve: IntensityDraw
    gamma: Tensor
    """Exponents."""
    contrast: Tensor
    """Factors."""
    brightness: Tensor
    """Factors."""
    blur: Tensor
    """Standard deviations, in voxels."""
    resolution: Tensor
    """Factors of the voxels' size, 1 or more."""
    noise: Tensor
    """(B, 1, D, H, W), in standard deviations of the image."""


def draw_acquisition(
    batch: int, shape: tuple[int, int, int], settings: AcquisitionSettings, generator: torch.Generator
) -> AcquisitionDraw:
    """Sample the changes for each of B volumes of `shape` (D, H, W)."""

    def factors(low: float, high: float) -> Tensor:
        applies = bernoulli(batch, settings.rate, generator).view(batch)
        return torch.where(applies, uniform((batch,), low, high, generator), 1.0)

    exponent = torch.tensor(1 + settings.gamma).log().item()
    sigma = (factors(1, 1 + settings.noise) - 1).view(batch, 1, 1, 1, 1)
    return AcquisitionDraw(
        curve=draw_intensity(batch, settings.curve_rate, generator),
        gamma=factors(1 - exponent, 1 + exponent).sub(1).exp(),
        contrast=factors(1 - settings.contrast, 1 + settings.contrast),
        brightness=factors(1 - settings.brightness, 1 + settings.brightness),
        blur=factors(1, 1 + settings.blur) - 1,
        resolution=factors(1, 1 + settings.resolution),
        noise=sigma * draw_noise(batch, shape, 1.0, generator),
    )


def change_acquisition(image: Tensor, draw: AcquisitionDraw) -> Tensor:
    """Apply the changes, noise last: (B, C, D, H, W), in [0, 1], to the same shape; the range is not kept."""
    changed = change_intensity(image, draw.curve)
    volumes = zip(changed.split(1), *(part.tolist() for part in draw[1:6]), strict=True)
    changed = torch.cat([_change(volume, *parameters) for volume, *parameters in volumes])
    if not draw.noise.any():
        return changed
    return add_noise(changed, draw.noise * changed.std(dim=(1, 2, 3, 4), keepdim=True))


def _change(volume: Tensor, gamma: float, contrast: float, brightness: float, blur: float, resolution: float) -> Tensor:
    """Change one volume, (1, C, D, H, W), by the parameters of `AcquisitionDraw`."""
    if gamma != 1:
        volume = volume.clamp(0, 1) ** gamma
    if contrast != 1:
        mean = volume.mean()
        volume = ((volume - mean) * contrast + mean).clamp(volume.min(), volume.max())
    if brightness != 1:
        volume = volume * brightness
    volume = gaussian_smooth(volume, blur)
    if resolution > 1:
        shape = spatial_shape(volume)
        for size in ([max(1, round(side / resolution)) for side in shape], shape):
            volume = functional.interpolate(volume, size=size, mode="trilinear", align_corners=ALIGN_CORNERS)
    return volume
