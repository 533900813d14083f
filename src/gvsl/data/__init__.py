"""Pairs and crops of a store's volumes."""

from gvsl.data.crop import centre_crop, fit_crop, foreground_centre
from gvsl.data.pairs import DataSettings, PairStream, crop_for, pair_loader, read_crop
from gvsl.data.subjects import subjects_to_pair

__all__ = [
    "DataSettings",
    "PairStream",
    "centre_crop",
    "crop_for",
    "fit_crop",
    "foreground_centre",
    "pair_loader",
    "read_crop",
    "subjects_to_pair",
]
