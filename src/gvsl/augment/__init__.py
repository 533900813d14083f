"""Random changes of a batch on its device: drawn first, from a generator that is passed in, and applied second."""

from gvsl.augment.appearance import AppearanceDraw, AppearanceSettings, change_appearance, draw_appearance
from gvsl.augment.inpaint import draw_inpaint, inpaint
from gvsl.augment.intensity import change_intensity, draw_intensity
from gvsl.augment.shuffle import draw_shuffle, shuffle
from gvsl.augment.spatial import SpatialSettings, draw_spatial

__all__ = [
    "AppearanceDraw",
    "AppearanceSettings",
    "SpatialSettings",
    "change_appearance",
    "change_intensity",
    "draw_appearance",
    "draw_inpaint",
    "draw_intensity",
    "draw_shuffle",
    "draw_spatial",
    "inpaint",
    "shuffle",
]
