"""Preprocessing presets by kind of scan; docs/preprocessing.md explains them."""

from dataclasses import replace

from gvsl.preprocessing.spec import Preprocessing

MR = Preprocessing(preset="mr")
"""MR of any region: without a unit, so the range is the volume's own, by percentiles robust to a few bright voxels."""

CT = Preprocessing(preset="ct", intensity="window", lower=-1024.0, upper=1024.0)
"""CT of any region, in HU: the window of GVSL (He et al., CVPR 2023; Table 2: [0, 2048] with air at 0)."""

PRESETS = {
    "mr": MR,
    "ct": CT,
    "brain-mr": replace(MR, preset="brain-mr", lower=0.0, upper=99.9, margin=8),
    "cardiac-ct": replace(CT, preset="cardiac-ct"),
    "chest-ct": replace(CT, preset="chest-ct", crop="lungs", margin=8),
    "none": Preprocessing(preset="none", lower=0.0, upper=100.0, crop="none", margin=0),
}
"""All presets by name."""
