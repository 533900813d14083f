"""Whole volumes in a run's folder for the report's viewer: the best and the worst case, and matched pairs.

They are compact: grey values in 256 steps, fields in 256ths of a voxel, and large volumes subsampled.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gvsl.files import whole_file

MAX_VOXELS = 2_000_000
"""Maximum size of a stored volume; a larger one keeps every n-th voxel along each axis, n as small as possible."""
FIELD_STEPS = 256
"""Steps of a stored field per voxel."""

Volumes = dict[str, NDArray[Any]]


def segmented_volume(image: NDArray[Any], truth: NDArray[Any], prediction: NDArray[Any]) -> Volumes:
    """Return a case's image in [0, 1] and its label values, (D, H, W) each, in the viewer's format.

    Returns:
        `image` (uint8), `truth` and `prediction` (uint8, or int16 where a value is below 0 or above 255), and `step`,
        the subsampling factor.
    """
    step, kind = _step(image.shape), label_type(truth, prediction)
    return {
        "image": _grey(image, step),
        "truth": _subsample(truth, step).astype(kind),
        "prediction": _subsample(prediction, step).astype(kind),
        "step": np.array(step),
    }


def matched_volumes(
    moving: NDArray[Any],
    fixed: NDArray[Any],
    warped: NDArray[Any],
    dvf: NDArray[Any],
    labels: Mapping[str, NDArray[Any]] | None = None,
) -> Volumes:
    """Return a pair in [0, 1], the moving volume warped onto the fixed one, and the displacement field.

    Args:
        moving: (D, H, W).
        fixed: (D, H, W).
        warped: (D, H, W).
        dvf: (3, D, H, W) in voxels.
        labels: label maps on the fixed volume's grid, (D, H, W), by their names in the viewer: `truth`, `carried`.

    Returns:
        `moving`, `fixed` and `warped` (uint8), `field` (int16, 256ths of a stored voxel, clipped), the labels (uint8 or
        int16), and `step`, the subsampling factor.
    """
    step = _step(fixed.shape)
    steps = np.round(np.stack([_subsample(part, step) for part in dvf]) * (FIELD_STEPS / step))
    limits = np.iinfo(np.int16)
    return {
        "moving": _grey(moving, step),
        "fixed": _grey(fixed, step),
        "warped": _grey(warped, step),
        "field": np.clip(steps, limits.min, limits.max).astype(np.int16),
        **{name: _subsample(label, step).astype(label_type(label)) for name, label in (labels or {}).items()},
        "step": np.array(step),
    }


class BestAndWorst:
    """The cases with the highest and the lowest score among those added one by one."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[float, str, Volumes]] = {}

    def add(self, case: str, score: float, image: NDArray[Any], truth: NDArray[Any], prediction: NDArray[Any]) -> None:
        """Keep a case's volumes if its score is higher or lower than all before; the first of equal ones stays."""
        better = "best" not in self.found or score > self.found["best"][0]
        worse = "worst" not in self.found or score < self.found["worst"][0]
        if better or worse:
            volume = segmented_volume(image, truth, prediction)
            self.found |= {name: (score, case, volume) for name, is_so in (("best", better), ("worst", worse)) if is_so}

    def write(self, folder: Path) -> list[dict[str, str]]:
        """Write them to `folder`/volumes and return their entries for the record; one if both are the same case."""
        entries = []
        for name, (score, case, volume) in self.found.items():
            if name == "worst" and case == self.found["best"][1]:
                continue
            title = f"{name}: {case}, DSC {score:.3f}"
            entries.append(write_arrays(folder, f"volumes/{name}.npz", volume, "segmentation", title))
        return entries


def write_arrays(folder: Path, file: str, arrays: Mapping[str, NDArray[Any]], kind: str, title: str) -> dict[str, str]:
    """Write arrays to `folder`/`file`, whole or not at all, and return their entry for the record."""
    with whole_file(folder / file) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)
    return {"file": file, "kind": kind, "title": title}


def label_type(*labels: NDArray[Any]) -> type[np.uint8] | type[np.int16]:
    """Return the smallest type for all of these label values: uint8, or int16 if one is below 0 or above 255."""
    fits = all(label.min() >= 0 and label.max() <= np.iinfo(np.uint8).max for label in labels)
    return np.uint8 if fits else np.int16


def _step(shape: Sequence[int]) -> int:
    return max(1, ceil((np.prod(shape, dtype=np.float64) / MAX_VOXELS) ** (1 / 3)))


def _subsample(array: NDArray[Any], step: int) -> NDArray[Any]:
    return array[::step, ::step, ::step]


def _grey(image: NDArray[Any], step: int) -> NDArray[np.uint8]:
    return np.round(255 * np.clip(_subsample(image, step).astype(np.float32), 0, 1)).astype(np.uint8)
