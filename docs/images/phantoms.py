"""Draw the picture of docs/phantom.md: python docs/images/phantoms.py PICTURE.png.

A row for each task with three subjects of seed 0: a slice in the usual window, and the labels over it. In radiological
view: the patient's right is on the left.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gvsl.phantom.cohort import ANATOMIES, subject
from gvsl.settings.names import TASK_SUMMARIES

SIDE = 128
SUBJECTS = (1, 2, 3)
PLANES = {"shc": (2, 0.5), "sac": (2, 0.4), "sbm": (1, 0.52), "ccc": (2, 0.5)}
"""The axis perpendicular to the slice of each task, and the position along it, 0 to 1."""
THROUGH = ("sac",)
"""Tasks whose labels are projected along the axis, since a slice shows only dots of a vessel."""
WINDOWS = {"shc": (-200, 600), "sac": (-200, 600), "ccc": (-1100, 300)}
"""Grey range in HU; MR is shown from 0 to its 99.8th percentile."""


def main(out: Path) -> None:
    """Draw every task into `out`."""
    figure = Figure(figsize=(11, 7.9), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(ANATOMIES), 2 * len(SUBJECTS))
    for row, (task, anatomy) in zip(rows, ANATOMIES.items(), strict=True):
        axis, position = PLANES[task]
        order = {value: place for place, value in enumerate(anatomy.labels)}
        for place, index in enumerate(SUBJECTS):
            image, label = subject(0, index, (SIDE, SIDE, SIDE), task)
            low, high = WINDOWS.get(task, (0, float(np.percentile(image, 99.8))))
            where = int(position * SIDE)
            shown = np.take(image, where, axis).T
            named = (label.max(axis) if task in THROUGH else np.take(label, where, axis)).T
            colours = np.vectorize(lambda value, order=order: order.get(value, -1))(named)
            for axes in row[2 * place : 2 * place + 2]:
                axes.imshow(shown, cmap="gray", origin="lower", vmin=low, vmax=high)
                axes.set_xticks([])
                axes.set_yticks([])
            row[2 * place + 1].imshow(
                np.ma.masked_less(colours, 0) % 20, cmap="tab20", origin="lower", vmin=0, vmax=19, alpha=0.65
            )
        for axes in row:
            axes.invert_xaxis()
        for across, letter in ((0.05, "R"), (0.95, "L")):
            row[0].text(across, 0.5, letter, color="white", ha="center", transform=row[0].transAxes, fontsize=9)
        row[0].set_ylabel(f"{task}\n{len(anatomy.labels)} label{'s' * (len(anatomy.labels) > 1)}", fontsize=11)
        row[0].set_title(TASK_SUMMARIES[task], fontsize=9, loc="left")
    figure.savefig(out, dpi=90)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
