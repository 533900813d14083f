"""Reading and writing volumes: array, spacing and orientation, and back again."""

from gvsl.io.nifti import read_nifti, read_nifti_label, write_nifti, write_nifti_like
from gvsl.io.orientation import to_canonical
from gvsl.io.resample import resample, resample_onto
from gvsl.io.volume import MAX_VOXELS, UnusableFile, Volume, same_grid

__all__ = [
    "MAX_VOXELS",
    "UnusableFile",
    "Volume",
    "read_nifti",
    "read_nifti_label",
    "resample",
    "resample_onto",
    "same_grid",
    "to_canonical",
    "write_nifti",
    "write_nifti_like",
]
