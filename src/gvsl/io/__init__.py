"""Reading and writing volumes: array, spacing and orientation, and back again."""

from gvsl.io.dicom import find_series
from gvsl.io.nifti import read_nifti, read_nifti_label, write_nifti, write_nifti_like
from gvsl.io.orientation import to_canonical
from gvsl.io.read import COMPANION_SUFFIXES, VOLUME_SUFFIXES, read_label, read_volume, write_like
from gvsl.io.resample import resample, resample_onto
from gvsl.io.volume import MAX_VOXELS, UnusableFile, Volume, same_grid

__all__ = [
    "COMPANION_SUFFIXES",
    "MAX_VOXELS",
    "VOLUME_SUFFIXES",
    "UnusableFile",
    "Volume",
    "find_series",
    "read_label",
    "read_nifti",
    "read_nifti_label",
    "read_volume",
    "resample",
    "resample_onto",
    "same_grid",
    "to_canonical",
    "write_like",
    "write_nifti",
    "write_nifti_like",
]
