"""Networks that compute global and local features of a volume."""

from gvsl.backbones.unet3d import UNet3D, coarsest, levels_for
from gvsl.settings.backbones import UNet3DSettings

__all__ = ["UNet3D", "UNet3DSettings", "coarsest", "levels_for"]
