"""Random augmentation of a batch on its device: sampled first, from a generator that is passed in, then applied."""

from gvsl.augment.acquisition import AcquisitionSettings, change_acquisition, draw_acquisition
from gvsl.augment.appearance import AppearanceSettings, change_appearance, draw_appearance
from gvsl.augment.flip import draw_flip, draw_mirror, flip
from gvsl.augment.inpaint import InpaintDraw, draw_inpaint, inpaint
from gvsl.augment.intensity import change_intensity, draw_intensity
from gvsl.augment.noise import add_noise, draw_noise
from gvsl.augment.rotate import ROTATIONS, draw_rotation, rotate
from gvsl.augment.shuffle import draw_shuffle, shuffle
from gvsl.augment.spatial import SpatialSettings, draw_spatial
from gvsl.augment.views import ViewSettings, check_views, draw_views, make_view

__all__ = [
    "ROTATIONS",
    "AcquisitionSettings",
    "AppearanceSettings",
    "InpaintDraw",
    "SpatialSettings",
    "ViewSettings",
    "add_noise",
    "change_acquisition",
    "change_appearance",
    "change_intensity",
    "check_views",
    "draw_acquisition",
    "draw_appearance",
    "draw_flip",
    "draw_inpaint",
    "draw_intensity",
    "draw_mirror",
    "draw_noise",
    "draw_rotation",
    "draw_shuffle",
    "draw_spatial",
    "draw_views",
    "flip",
    "inpaint",
    "make_view",
    "rotate",
    "shuffle",
]
