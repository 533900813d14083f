"""The contracts by the kind of scan. docs/preprocessing.md says of each why it is what it is."""

from dataclasses import replace

from gvsl.preprocessing.spec import Preprocessing

MR = Preprocessing(preset="mr")
"""MR of any part: no unit, so the range is the volume's own, by percentiles that a few bright voxels don't move."""

CT = Preprocessing(preset="ct", intensity="window", lower=-1024.0, upper=1024.0)
"""CT of any part, in HU: the paper's window (Table 2, [0, 2048] with air at 0)."""

PRESETS = {
    "mr": MR,
    "ct": CT,
    "brain-mr": replace(MR, preset="brain-mr", lower=0.0, upper=99.9, margin=8),
    "cardiac-ct": replace(CT, preset="cardiac-ct"),
    "chest-ct": replace(CT, preset="chest-ct", crop="lungs", margin=8),
    "none": Preprocessing(preset="none", lower=0.0, upper=100.0, crop="none", margin=0),
}
"""Every contract by name."""
