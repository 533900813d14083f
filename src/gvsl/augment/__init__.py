"""Random changes of a batch on its device: drawn first, from a generator that is passed in, and applied second."""

from gvsl.augment.appearance import AppearanceDraw, AppearanceSettings, change_appearance, draw_appearance
from gvsl.augment.inpaint import draw_inpaint, inpaint
from gvsl.augment.intensity import change_intensity, draw_intensity
from gvsl.augment.noise import add_noise, draw_noise
from gvsl.augment.orientation import ROTATIONS, draw_flips, flip, rotate, rotate_back
from gvsl.augment.painting import draw_erased, draw_painting, erase
from gvsl.augment.shuffle import draw_shuffle, shuffle
from gvsl.augment.spatial import SpatialSettings, draw_spatial
from gvsl.augment.views import ViewSettings, draw_views, make_view

__all__ = [
    "ROTATIONS",
    "AppearanceDraw",
    "AppearanceSettings",
    "SpatialSettings",
    "ViewSettings",
    "add_noise",
    "change_appearance",
    "change_intensity",
    "draw_appearance",
    "draw_erased",
    "draw_flips",
    "draw_inpaint",
    "draw_intensity",
    "draw_noise",
    "draw_painting",
    "draw_shuffle",
    "draw_spatial",
    "draw_views",
    "erase",
    "flip",
    "inpaint",
    "make_view",
    "rotate",
    "rotate_back",
    "shuffle",
]
