"""Whole volumes that a run keeps for the report's viewer: the best and the worst case, and matched pairs.

Compact: grey values in 256 steps, fields in 256ths of a voxel, every n-th voxel of what is large.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gvsl.files import whole_file

MOST_VOXELS = 2_000_000
"""Of a volume as it is kept; of larger ones every second voxel along each axis, or every third, and so on."""
FIELD_STEPS = 256
"""Steps of a field to the voxel."""
FIELD_LIMIT = np.iinfo(np.int16).max / FIELD_STEPS
"""Voxels; a displacement that is larger is kept as this."""

Volumes = dict[str, NDArray[Any]]


def segmented_volume(image: NDArray[Any], truth: NDArray[Any], prediction: NDArray[Any]) -> Volumes:
    """A case's image in [0, 1] and its label values, (D, H, W) each, as the viewer reads them.

    Returns:
        `image` (uint8), `truth` and `prediction` (uint8, or int16 where a value is above 255), and `step`: every
        how many voxels of the store are kept.
    """
    step = _step(image.shape)
    kind = np.uint8 if max(truth.max(), prediction.max()) <= np.iinfo(np.uint8).max else np.int16
    return {
        "image": _grey(image, step),
        "truth": _every(truth, step).astype(kind),
        "prediction": _every(prediction, step).astype(kind),
        "step": np.array(step),
    }


def matched_volumes(moving: NDArray[Any], fixed: NDArray[Any], warped: NDArray[Any], dvf: NDArray[Any]) -> Volumes:
    """A pair in [0, 1], the moving volume on the fixed one's grid, and the field that brings it there.

    Args:
        moving: (D, H, W).
        fixed: (D, H, W).
        warped: (D, H, W).
        dvf: (3, D, H, W) in voxels.

    Returns:
        `moving`, `fixed` and `warped` (uint8), `field` (int16, 256ths of a kept voxel), and `step`.
    """
    step = _step(fixed.shape)
    steps = np.round(np.stack([_every(part, step) for part in dvf]) * (FIELD_STEPS / step))
    limits = np.iinfo(np.int16)
    return {
        "moving": _grey(moving, step),
        "fixed": _grey(fixed, step),
        "warped": _grey(warped, step),
        "field": np.clip(steps, limits.min, limits.max).astype(np.int16),
        "step": np.array(step),
    }


class Extremes:
    """The best and the worst of cases that come one by one; others are forgotten."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[float, str, Volumes]] = {}

    def see(self, case: str, score: float, image: NDArray[Any], truth: NDArray[Any], prediction: NDArray[Any]) -> None:
        """Keep a case if it is better or worse than those before."""
        better = "best" not in self.found or score > self.found["best"][0]
        worse = "worst" not in self.found or score < self.found["worst"][0]
        if better or worse:
            volume = segmented_volume(image, truth, prediction)
            self.found |= {name: (score, case, volume) for name, is_so in (("best", better), ("worst", worse)) if is_so}

    def write(self, folder: Path) -> list[dict[str, str]]:
        """Write them to `folder`/volumes, and return them as a record lists them; one if a single case was seen."""
        entries = []
        for name, (score, case, volume) in self.found.items():
            if name == "worst" and case == self.found["best"][1]:
                continue
            title = f"{name}: {case}, DSC {score:.3f}"
            entries.append(write_volumes(folder, f"volumes/{name}.npz", volume, "segmentation", title))
        return entries


def write_volumes(folder: Path, file: str, arrays: Mapping[str, NDArray[Any]], kind: str, title: str) -> dict[str, str]:
    """Write volumes to `folder`/`file`, whole or not at all, and return them as a record lists them."""
    (folder / file).parent.mkdir(exist_ok=True)
    with whole_file(folder / file) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)
    return {"file": file, "kind": kind, "title": title}


def _step(shape: Sequence[int]) -> int:
    return max(1, ceil((np.prod(shape, dtype=np.float64) / MOST_VOXELS) ** (1 / 3)))


def _every(array: NDArray[Any], step: int) -> NDArray[Any]:
    return array[::step, ::step, ::step]


def _grey(image: NDArray[Any], step: int) -> NDArray[np.uint8]:
    return np.round(255 * np.clip(_every(image, step).astype(np.float32), 0, 1)).astype(np.uint8)
