"""Draw the fields of view of docs/phantom.md: python docs/images/phantom_views.py PICTURE.png.

The axial slice through the heart's centre, with its labels; the patient's right is on the left.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gvsl.phantom.cohort import subject

SIDE = 96
SUBJECTS = 8
VARIATIONS = (0.0, 0.1, 0.2)


def main(out: Path) -> None:
    """Draw a row for each variation into `out`."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    for row, variation in zip(figure.subplots(len(VARIATIONS), SUBJECTS), VARIATIONS, strict=True):
        for index, axes in enumerate(row):
            image, label = subject(0, index, (SIDE, SIDE, SIDE), view_variation=variation)
            level = int(np.argwhere(label)[:, 2].mean())
            axes.imshow(image[:, :, level].T, cmap="gray", origin="lower", vmin=-200, vmax=600)
            shown = np.ma.masked_equal(label[:, :, level].T, 0)
            axes.imshow(shown, cmap="tab10", origin="lower", vmin=0, vmax=9, alpha=0.65)
            axes.invert_xaxis()
            axes.set_xticks([])
            axes.set_yticks([])
        row[0].set_ylabel(f"{variation:g}", fontsize=11)
    figure.savefig(out, dpi=70)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
