"""The ablations of Table 1: GVSL with one part switched off, whatever its other settings."""

from dataclasses import replace

from gvsl.backbones import UNet3D
from gvsl.methods.gvsl import GVSL, GVSLSettings


def without_matching(backbone: UNet3D, settings: GVSLSettings | None = None) -> GVSL:
    """GVSL that restores and does not match (Table 1, "w/o Z-Matching")."""
    return GVSL(backbone, replace(settings or GVSLSettings(), matching=False))


def without_restoration(backbone: UNet3D, settings: GVSLSettings | None = None) -> GVSL:
    """GVSL that matches and does not restore (Table 1, "w/o Fundament")."""
    return GVSL(backbone, replace(settings or GVSLSettings(), restoration=False))


def without_affine(backbone: UNet3D, settings: GVSLSettings | None = None) -> GVSL:
    """GVSL that matches locally alone (Table 1, "w/o Affine head")."""
    return GVSL(backbone, replace(settings or GVSLSettings(), affine=False))
