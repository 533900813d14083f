"""Rows of slices, such as original, damaged and restored, in radiological view with a switch to neurological view."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gvsl.report.figures.slices import image_layer, slice_svg
from gvsl.report.page import Html, element
from gvsl.report.run_arrays import AXES, Array

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


def stage_row(stages: Sequence[Stage], alt: str, min_columns: int = 0) -> Html:
    """Lay stages side by side on a wide page, below each other on a phone; all slices at one scale."""
    width = max(image.shape[0] for stage in stages for image in stage.images)
    heights = [max(stage.images[axis].shape[1] for stage in stages) for axis in AXES]
    columns = []
    for stage in stages:
        cells = []
        for image, overlay, height, (plane, letters) in zip(stage.images, stage.overlays, heights, PLANES, strict=True):
            layers = [image_layer(image, stage.limits, stage.colours), overlay]
            svg = slice_svg(layers, image.shape, (width, height), f"{alt}, {stage.name}, {plane}")
            ends = [element("i", letter, css=f"end {end}") for letter, end in zip(letters, ENDS, strict=True)]
            cells.append(element("div", Html(svg), *ends, element("span", plane), css="cell"))
        head = element("header", element("b", stage.name), element("small", stage.note))
        columns.append(element("div", head, *cells, css="stage"))
    return element("div", *columns, css="stages", style=f"--columns:{max(len(stages), min_columns)}")


def view_switch() -> Html:
    """Return the check box for neurological view; page.js keeps all of them alike."""
    box = element("label", Html('<input type="checkbox" class="neurological">'), "neurological view")
    return element("div", "Radiological view: the patient's right is on the left.", box, css="tools")
