"""Pictures of single cases in a run's folder: slices through a volume, which the report reads."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gvsl.records.volumes import label_type, write_arrays

Slices = dict[str, NDArray[Any]]


def segmentation_slices(
    image: NDArray[Any], truth: NDArray[Any], prediction: NDArray[Any], confidence: NDArray[Any] | None = None
) -> Slices:
    """Return the slice perpendicular to each axis that shows most of the truth.

    Args:
        image: (D, H, W).
        truth: label values, (D, H, W).
        prediction: label values, (D, H, W).
        confidence: of the prediction, (D, H, W), in [0, 1], if it has one.

    Returns:
        `image_k` (float16), `truth_k` and `prediction_k` (uint8, or int16 where a value is below 0 or above 255) for
        each axis k, and `confidence_k` (float16) if it is given; the remaining axes are in array order.
    """
    kind = label_type(truth, prediction)
    slices: Slices = {}
    for axis in range(3):
        area = np.count_nonzero(truth, axis=tuple(other for other in range(3) if other != axis))
        index = int(area.argmax()) if area.any() else truth.shape[axis] // 2
        slices[f"image_{axis}"] = image.take(index, axis).astype(np.float16)
        slices[f"truth_{axis}"] = truth.take(index, axis).astype(kind)
        slices[f"prediction_{axis}"] = prediction.take(index, axis).astype(kind)
        if confidence is not None:
            slices[f"confidence_{axis}"] = confidence.take(index, axis).astype(np.float16)
    return slices


def write_segmentations(
    folder: Path, rows: Sequence[Mapping[str, Any]], slices: Sequence[Slices]
) -> list[dict[str, str]]:
    """Write the best, the median and the worst case to `folder`/pictures.

    Args:
        folder: the run's folder.
        rows: `id` and `dice` of each case; at least one.
        slices: of each case, in the same order.

    Returns:
        The pictures' entries for the record, best first.
    """
    ranked = sorted(range(len(rows)), key=lambda index: (-rows[index]["dice"], rows[index]["id"]))
    chosen = {"best": ranked[0], "median": ranked[len(ranked) // 2], "worst": ranked[-1]}
    pictures = []
    for name, index in chosen.items():
        title = f"{name}: {rows[index]['id']}, DSC {rows[index]['dice']:.3f}"
        pictures.append(write_arrays(folder, f"pictures/{name}.npz", slices[index], "segmentation", title))
    return pictures
