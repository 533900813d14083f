"""Reading and writing volumes: voxels, spacing and orientation."""

from gvsl.io.dicom_series import Series, find_series, group_series
from gvsl.io.label_content import looks_like_labels, refuse_label_map
from gvsl.io.nifti import write_nifti, write_nifti_like
from gvsl.io.read import (
    COMPANION_SUFFIXES,
    LABEL_SUFFIXES,
    VOLUME_SUFFIXES,
    declared_modality,
    has_frames,
    image_volume,
    peek,
    read_frames,
    read_label,
    read_volume,
    write_like,
)
from gvsl.io.resample import resample, resample_onto
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
    "find_series",
    "format_sizes",
    "group_series",
    "has_frames",
    "image_volume",
    "looks_like_labels",
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
