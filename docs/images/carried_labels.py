"""Draw the picture of docs/few_labels.md: python docs/images/carried_labels.py PICTURE.png.

Labels of one phantom carried onto another by refinement alone, without a network: as it should be; turned by 90
degrees; with half of the organ cut off; and of another anatomy. Colour is the carried label, the white line the truth.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gvsl.backbones import UNet3D
from gvsl.methods import GVSL
from gvsl.metrics.dice import dice_per_structure
from gvsl.phantom.cohort import subject
from gvsl.propagation import Atlas, PropagationSettings
from gvsl.propagation.attempt import Attempt, attempt

SIDE = 48
SETTINGS = PropagationSettings(start="none")
HU = (-200.0, 600.0)
"""Range of grey values that becomes 0 to 1."""
COLOURS = {"cmap": "tab10", "origin": "lower", "vmin": 0, "vmax": 9}

Array = NDArray[np.float32]


def heart(index: int) -> tuple[Array, NDArray[np.int64]]:
    """Return a phantom's image in [0, 1] and its classes."""
    image, label = subject(0, index, (SIDE, SIDE, SIDE))
    scaled = np.clip((image - HU[0]) / (HU[1] - HU[0]), 0, 1)
    return scaled.astype(np.float32), np.asarray(label, np.int64)


def brain() -> tuple[Array, NDArray[np.int64]]:
    """Return the image of another anatomy, and no label of the heart."""
    image, _ = subject(0, 1, (SIDE, SIDE, SIDE), "sbm")
    low, high = np.percentile(image, (1, 99))
    scaled = np.clip((image - low) / (high - low), 0, 1).astype(np.float32)
    return scaled, np.zeros(scaled.shape, np.int64)


def draw(column: tuple[Axes, Axes], title: str, image: Array, truth: NDArray[np.int64], found: Attempt) -> None:
    """Draw the axial slice through an image's centre with the carried labels, and their confidence below."""
    level = SIDE // 2
    classes = found.carried.classes[0, 0, :, :, level].numpy().T
    column[0].imshow(image[:, :, level].T, cmap="gray", origin="lower", vmin=0, vmax=1)
    column[0].imshow(np.ma.masked_equal(classes, 0), alpha=0.65, **COLOURS)
    column[1].imshow(found.carried.confidence[0, 0, :, :, level].T, cmap="magma", origin="lower", vmin=0, vmax=1)
    said = f"reverse_dice {found.carried.reverse_dice:.2f}: {'no match' if found.failed else 'matched'}"
    if truth.any():
        count = found.carried.votes.shape[1]
        scores = dice_per_structure(found.carried.classes, torch.from_numpy(truth)[None, None], count)
        said += f"\nDSC {np.mean(scores):.2f}"
    column[0].set_title(f"{title}\n{said}", fontsize=10)
    for axes in column:
        if truth[:, :, level].any():
            axes.contour(truth[:, :, level].T > 0, levels=[0.5], colors="white", linewidths=1)
        axes.invert_xaxis()
        axes.set_xticks([])
        axes.set_yticks([])


def main(out: Path) -> None:
    """Draw a column for each image into `out`."""
    torch.manual_seed(0)
    method = GVSL(UNet3D(width=8, levels=4)).eval()  # its weights are not used: the start is none
    image, classes = heart(0)
    atlas = Atlas("atlas", *(torch.from_numpy(each)[None, None] for each in (image, classes)), int(classes.max()) + 1)
    target, truth = heart(1)
    turned, turned_truth = (np.rot90(each, axes=(0, 2)).copy() for each in (target, truth))
    half = int(np.argwhere(truth)[:, 1].mean())
    cut, cut_truth = target.copy(), truth.copy()
    cut[:, half:], cut_truth[:, half:] = 0, 0
    images = {
        "as it should be": (target, truth),
        "turned by 90 degrees": (turned, turned_truth),
        "half of it": (cut, cut_truth),
        "another organ": brain(),
    }
    figure = Figure(figsize=(10, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    columns = np.asarray(figure.subplots(2, len(images))).T
    for column, (title, (shown, true)) in zip(columns, images.items(), strict=True):
        draw(tuple(column), title, shown, true, attempt(method, [atlas], shown[None], SETTINGS))
    columns[0][0].set_ylabel("carried labels")
    columns[0][1].set_ylabel("confidence")
    figure.savefig(out, dpi=80)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
