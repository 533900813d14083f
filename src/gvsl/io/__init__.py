"""Reading and writing volumes: voxels, spacing and orientation."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gvsl.io.resample import resample, resample_onto
from gvsl.io.structures import name_key
from gvsl.io.volume import (
    Box,
    UnusableFile,
    Volume,
    bounding_box,
    format_sizes,
    other_grid,
    refuse_other_grid,
    same_grid,
    to_canonical,
)

if TYPE_CHECKING:
    from gvsl.io.dicom_series import Series, find_series, group_series
    from gvsl.io.label_content import looks_like_labels, refuse_label_map
    from gvsl.io.nifti import write_nifti, write_nifti_like
    from gvsl.io.read import (
        COMPANION_SUFFIXES,
        LABEL_SUFFIXES,
        VOLUME_SUFFIXES,
        declared_modality,
        files_of,
        has_frames,
        holds_structures,
        image_volume,
        maps_in,
        peek,
        read_frames,
        read_label,
        read_volume,
        write_like,
    )

__all__ = [
    "COMPANION_SUFFIXES",
    "LABEL_SUFFIXES",
    "VOLUME_SUFFIXES",
    "Box",
    "Series",
    "UnusableFile",
    "Volume",
    "bounding_box",
    "declared_modality",
    "files_of",
    "find_series",
    "format_sizes",
    "group_series",
    "has_frames",
    "holds_structures",
    "image_volume",
    "looks_like_labels",
    "maps_in",
    "name_key",
    "other_grid",
    "peek",
    "read_frames",
    "read_label",
    "read_volume",
    "refuse_label_map",
    "refuse_other_grid",
    "resample",
    "resample_onto",
    "same_grid",
    "to_canonical",
    "write_like",
    "write_nifti",
    "write_nifti_like",
]

_HOMES = {
    **dict.fromkeys(("Series", "find_series", "group_series"), "dicom_series"),
    **dict.fromkeys(("looks_like_labels", "refuse_label_map"), "label_content"),
    **dict.fromkeys(("write_nifti", "write_nifti_like"), "nifti"),
    **dict.fromkeys(("COMPANION_SUFFIXES", "LABEL_SUFFIXES", "VOLUME_SUFFIXES"), "read"),
    **dict.fromkeys(("holds_structures", "maps_in", "peek", "read_label", "read_volume", "write_like"), "read"),
    **dict.fromkeys(("declared_modality", "files_of", "has_frames", "image_volume", "read_frames"), "read"),
}
"""The module of each name whose import is slow, by way of nibabel, pydicom or scipy."""


def __getattr__(name: str) -> Any:
    """Import what reads, writes or resamples at its first use: `gvsl inspect` needs none of it."""
    if name in _HOMES:
        return getattr(import_module(f"gvsl.io.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
