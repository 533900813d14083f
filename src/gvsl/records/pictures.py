"""What a run shows of single cases: slices through a volume, as the report reads them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Slices = dict[str, NDArray[Any]]


def segmentation_slices(image: NDArray[Any], truth: NDArray[Any], prediction: NDArray[Any]) -> Slices:
    """The slices of a segmented volume that show the most of the truth, one perpendicular to each axis.

    Args:
        image: (D, H, W).
        truth: label values, (D, H, W).
        prediction: label values, (D, H, W).

    Returns:
        `image_k` (float16), `truth_k` and `prediction_k` (uint8, or int16 where a value is above 255) for
        each axis k; the remaining axes are in array order.
    """
    kind = np.uint8 if max(truth.max(), prediction.max()) <= np.iinfo(np.uint8).max else np.int16
    slices: Slices = {}
    for axis in range(3):
        area = np.count_nonzero(truth, axis=tuple(other for other in range(3) if other != axis))
        place = int(area.argmax()) if area.any() else truth.shape[axis] // 2
        slices[f"image_{axis}"] = image.take(place, axis).astype(np.float16)
        slices[f"truth_{axis}"] = truth.take(place, axis).astype(kind)
        slices[f"prediction_{axis}"] = prediction.take(place, axis).astype(kind)
    return slices


def write_segmentations(
    folder: Path, rows: Sequence[Mapping[str, Any]], slices: Sequence[Slices]
) -> list[dict[str, str]]:
    """Write the best, the median and the worst case to `folder`/pictures.

    Args:
        folder: the run's folder.
        rows: `id` and `dice` of each case; one or more.
        slices: of each case, in the same order.

    Returns:
        The pictures as a record lists them, best first.
    """
    ranked = sorted(range(len(rows)), key=lambda index: (-rows[index]["dice"], rows[index]["id"]))
    places = {"best": ranked[0], "median": ranked[len(ranked) // 2], "worst": ranked[-1]}
    (folder / "pictures").mkdir()
    pictures = []
    for name, index in places.items():
        file = f"pictures/{name}.npz"
        np.savez_compressed(folder / file, allow_pickle=False, **slices[index])
        title = f"{name}: {rows[index]['id']}, DSC {rows[index]['dice']:.3f}"
        pictures.append({"file": file, "kind": "segmentation", "title": title})
    return pictures
