"""Draw the README's picture from a pre-training run: python docs/images/matched_pair.py RUN PICTURE.png.

Left to right: the moving subject, the moving subject warped onto the fixed one, the fixed subject, and the grid of
positions that each voxel was sampled from. In radiological view: the patient's right is on the left.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

AXIS = 2
"""The plane shown is perpendicular to this axis; 2 is axial."""
EVERY = 2
"""Distance of grid lines in voxels."""
SHOWN = [("moving", "moving"), ("moving, matched", "warped"), ("fixed", "fixed")]
"""Title and array of each panel."""


def main(run: Path, out: Path) -> None:
    """Draw the first pair of `run` into `out`."""
    with np.load(run / "pictures" / "pair-0.npz", allow_pickle=False) as pair:
        planes = [(title, pair[f"{name}_{AXIS}"]) for title, name in SHOWN]
        grid = pair[f"grid_{AXIS}"]
    figure = Figure(figsize=(10, 2.9), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, plane) in zip(
        figure.subplots(1, 4), [*planes, ("where it came from", planes[0][1])], strict=True
    ):
        axes.imshow(plane.T, cmap="gray", origin="lower", vmin=0, vmax=1)
        axes.set_title(title, fontsize=11)
        axes.set_axis_off()
        for across, letter in ((0.03, "R"), (0.97, "L")):
            axes.text(across, 0.5, letter, color="white", ha="center", transform=axes.transAxes, fontsize=9)
    x, y = grid
    axes = figure.axes[-1]
    axes.plot(x[::EVERY].T, y[::EVERY].T, color="#56B4E9", linewidth=0.7)
    axes.plot(x[:, ::EVERY], y[:, ::EVERY], color="#56B4E9", linewidth=0.7)
    axes.set_xlim(-0.5, x.shape[0] - 0.5)
    axes.set_ylim(-0.5, x.shape[1] - 0.5)
    for axes in figure.axes:
        axes.invert_xaxis()
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
