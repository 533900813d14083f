"""Reading and writing volumes: voxels, spacing and orientation."""

from gvsl.io.dicom_file import find_series
from gvsl.io.nifti import write_nifti, write_nifti_like
from gvsl.io.read import COMPANION_SUFFIXES, LABEL_SUFFIXES, VOLUME_SUFFIXES, read_label, read_volume, write_like
from gvsl.io.resample import resample, resample_onto
from gvsl.io.volume import Box, UnusableFile, Volume, bounding_box, format_sizes, same_grid, to_canonical

__all__ = [
    "COMPANION_SUFFIXES",
    "LABEL_SUFFIXES",
    "VOLUME_SUFFIXES",
    "Box",
    "UnusableFile",
    "Volume",
    "bounding_box",
    "find_series",
    "format_sizes",
    "read_label",
    "read_volume",
    "resample",
    "resample_onto",
    "same_grid",
    "to_canonical",
    "write_like",
    "write_nifti",
    "write_nifti_like",
]
