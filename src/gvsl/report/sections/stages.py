"""A row of stages, such as original, damaged, restored: each a heading over the slices of three axes."""

from collections.abc import Sequence
from dataclasses import dataclass

from gvsl.report.figures.slices import slice_svg
from gvsl.report.page import Html, element

PLANES = ("sagittal", "coronal", "axial")
"""What a slice perpendicular to each axis is called: axes grow to the right, the front and the top."""


@dataclass(frozen=True)
class Stage:
    """One column: its name, a line under it, and for each axis the slice's layers and its shape."""

    name: str
    note: Html | str
    layers: Sequence[Sequence[str]]
    shapes: Sequence[tuple[int, ...]]


def stage_row(stages: Sequence[Stage], alt: str, columns_at_least: int = 0) -> Html:
    """Lay stages side by side on a wide page, one below the other on a phone; all slices at one scale."""
    width = max(shape[0] for stage in stages for shape in stage.shapes)
    heights = [max(stage.shapes[axis][1] for stage in stages) for axis in range(3)]
    columns = []
    for stage in stages:
        head = element("header", element("b", stage.name), element("small", stage.note))
        cells = []
        for axis, plane in enumerate(PLANES):
            words = f"{alt}, {stage.name}, {plane}"
            svg = slice_svg(stage.layers[axis], stage.shapes[axis], (width, heights[axis]), words)
            cells.append(element("div", Html(svg), element("span", plane), css="cell"))
        columns.append(element("div", head, *cells, css="stage"))
    return element("div", *columns, css="stages", style=f"--columns:{max(len(stages), columns_at_least)}")
