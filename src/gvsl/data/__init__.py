"""Pairs and crops out of a store."""

from gvsl.data.crop import centre_crop, fit_crop
from gvsl.data.pairs import DataSettings, PairStream, crop_for, draw_pairs, foreground_place, pair_loader, read_crop

__all__ = [
    "DataSettings",
    "PairStream",
    "centre_crop",
    "crop_for",
    "draw_pairs",
    "fit_crop",
    "foreground_place",
    "pair_loader",
    "read_crop",
]
