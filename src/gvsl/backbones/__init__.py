"""Networks that turn a volume into global and local features."""

from gvsl.backbones.unet3d import UNet3D, UNet3DSettings

__all__ = ["UNet3D", "UNet3DSettings"]
