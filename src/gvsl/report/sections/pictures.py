"""Rows of slices, such as original, damaged and restored, in radiological view with a switch to neurological view."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gvsl.report.figures.slices import image_layer, slice_svg
from gvsl.report.page import Html, element
from gvsl.report.run_arrays import AXES, Array, Spacing

PLANES = (("sagittal", "APSI"), ("coronal", "RLSI"), ("axial", "RLAP"))
"""The plane perpendicular to each axis, and the letters at its left, right, top and bottom in radiological view.

Axes grow to the patient's right, front and top.
"""
ENDS = ("left", "right", "top", "bottom")


@dataclass(frozen=True)
class Stage:
    """One column of a row: a name, a note below it, and a slice perpendicular to each axis."""

    name: str
    images: Sequence[Array]
    limits: tuple[float, float]
    """Grey values shown as black and white."""
    note: Html | str = ""
    overlays: Sequence[str] = ("", "", "")
    """SVG drawn over each slice."""
    colours: Literal["gray", "magma"] = "gray"


def stage_row(stages: Sequence[Stage], alt: str, spacing: Spacing, min_columns: int = 0) -> Html:
    """Lay stages side by side on a wide page, below each other on a phone; all slices at one scale.

    Args:
        stages: the columns.
        alt: description for screen readers.
        spacing: of the voxels; pixels are as long and as wide as these.
        min_columns: the number of columns that the row has at least the room for.
    """
    sizes = [[spacing[other] / min(spacing) for other in AXES if other != axis] for axis in AXES]
    width = max(stage.images[axis].shape[0] * sizes[axis][0] for stage in stages for axis in AXES)
    heights = [max(stage.images[axis].shape[1] for stage in stages) * sizes[axis][1] for axis in AXES]
    columns = []
    for stage in stages:
        cells = []
        for axis, (plane, letters) in enumerate(PLANES):
            image = stage.images[axis]
            layers = [image_layer(image, stage.limits, stage.colours), stage.overlays[axis]]
            frame, (across, up) = (width, heights[axis]), sizes[axis]
            svg = slice_svg(layers, image.shape, frame, f"{alt}, {stage.name}, {plane}", (across, up))
            ends = [element("i", letter, css=f"end {end}") for letter, end in zip(letters, ENDS, strict=True)]
            cells.append(element("div", Html(svg), *ends, element("span", plane), css="cell"))
        head = element("header", element("b", stage.name), element("small", stage.note))
        columns.append(element("div", head, *cells, css="stage"))
    return element("div", *columns, css="stages", style=f"--columns:{max(len(stages), min_columns)}")


def view_switch() -> Html:
    """Return the check box for neurological view; page.js keeps all of them alike."""
    box = element("label", Html('<input type="checkbox" class="neurological">'), "neurological view")
    return element("div", "Radiological view: the patient's right is on the left.", box, css="tools")
