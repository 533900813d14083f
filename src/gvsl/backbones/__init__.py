"""Networks that compute global and local features of a volume."""

from gvsl.backbones.backbone import Backbone
from gvsl.backbones.build import BACKBONES, build_backbone
from gvsl.backbones.unet3d import UNet3D, coarsest, levels_for
from gvsl.settings.backbones import BackboneSettings, UNet3DSettings

__all__ = [
    "BACKBONES",
    "Backbone",
    "BackboneSettings",
    "UNet3D",
    "UNet3DSettings",
    "build_backbone",
    "coarsest",
    "levels_for",
]
