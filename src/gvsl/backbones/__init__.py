"""Networks that compute global and local features of a volume."""

from gvsl.backbones.unet3d import UNet3D, UNet3DSettings, coarsest, levels_for

__all__ = ["UNet3D", "UNet3DSettings", "coarsest", "levels_for"]
